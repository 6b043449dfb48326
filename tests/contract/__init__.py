"""Contracts that the fakes and the real adapters are both held to."""

import pytest

pytest.register_assert_rewrite("tests.contract.docker_contract", "tests.contract.kernel_contract")
