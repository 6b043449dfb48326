"""What a guest with JupyterHub has besides: Node, JupyterLab, its image, three people with homes.

Plain values, as in `contents`. The hub itself comes with `install --hub`, as on a real host.
"""

from __future__ import annotations

from typing import Final

from enforcer.machine import contents

HUB_VENV: Final = "/opt/enforcer/hub"
PROXY: Final = "/opt/enforcer/proxy"
LAB_VENV: Final = "/opt/jupyterlab"
LAB_CONFIG: Final = f"{LAB_VENV}/etc/jupyter/jupyter_server_config.py"
LAB_IMAGE: Final = "jupyterlab:latest"
LAB_TAR: Final = "/var/lib/enforcer-demo/lab.tar"

PEOPLE: Final = ("alice", "frank", "grace")
"""Accounts of the guest with a home each, and no password until somebody sets one; all of them in
GROUP, and the first in the group sudo besides."""

GROUP: Final = "scientists"

ENVIRONMENT: Final = "/home/grace/miniforge3/envs/genomics"
"""A conda-style environment: its own python, packages of its own, scripts with its path in them."""

PACKAGES: Final = ("login", "nodejs", "passwd")

_GC_CONTENT: Final = f"""\
#!{ENVIRONMENT}/bin/python
import sys

from sequences import gc_content

print(f"{{gc_content(sys.argv[1]):.2f}} {{sys.prefix}}")
"""

_SEQUENCES: Final = '''\
"""A package that only this environment has."""


def gc_content(sequence: str) -> float:
    """The part of a sequence that is G or C."""
    return sum(base in "GC" for base in sequence.upper()) / len(sequence)
'''

_HISTORY: Final = """\
==> 2026-01-12 09:31:07 <==
# cmd: conda create -n genomics python ipykernel
"""

FILES: Final = (
    contents.File(f"{ENVIRONMENT}/conda-meta/history", _HISTORY),
    contents.File(f"{ENVIRONMENT}/bin/gc-content", _GC_CONTENT, 0o755),
    contents.File(f"{ENVIRONMENT}/lib/sequences.py", _SEQUENCES),
)

# The environment's python finds its library beside itself, as conda's does: a copy of the guest's,
# with a standard library of its own. Debian's mark that pip is to keep off does not go with it.
_ENVIRONMENT_SETUP: Final = f"""\
library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
env={ENVIRONMENT}
mkdir -p "$env/lib"
cp -L /usr/bin/python3 "$env/bin/python"
ln -s python "$env/bin/python3"
cp -a "$library" "$env/lib/"
rm -f "$env/lib/${{library##*/}}/EXTERNALLY-MANAGED"
mv "$env/lib/sequences.py" "$env/lib/${{library##*/}}/"
site=$("$env/bin/python" -c 'import site; print(site.getsitepackages()[-1])')
case "$site" in "$env"/*) ;; *) echo "$site is outside the environment" >&2; exit 1;; esac
{LAB_VENV}/bin/python -m pip --python "$env/bin/python" install --quiet --no-index \\
    --find-links {contents.WHEELS} --no-input --disable-pip-version-check \\
    --root-user-action=ignore ipykernel
HOME=/home/grace "$env/bin/python" -m ipykernel install --user --name genomics \\
    --display-name 'Python (genomics)'
test "$("$env/bin/gc-content" GCAT)" = "0.50 $env"
"""

# Nearly empty: the guest's own /usr and the lab's folder are mounted into every container. What the
# base system keeps in /etc comes along, so that names, colours and certificates are as usual.
_IMAGE_SETUP: Final = f"""\
image=$(mktemp -d)
cd "$image"
mkdir -p dev etc home opt proc root run srv sys tmp usr var/tmp
chmod 1777 tmp var/tmp
for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$folder"; done
cd /etc
cp -a --parents passwd group nsswitch.conf profile bash.bashrc localtime ld.so.conf ld.so.conf.d \\
    ld.so.cache alternatives ssl/certs "$image/etc/"
tar --owner=0 --group=0 --numeric-owner -cf {LAB_TAR} -C "$image" .
cd /
rm -r "$image"
"""

SETUP: Final = f"""\
groupadd {GROUP}
for person in {" ".join(PEOPLE)}; do
    useradd --shell /bin/bash --no-create-home --groups {GROUP} "$person"
    mkdir -p "/home/$person"
    cp -rT /etc/skel "/home/$person"
done
usermod --append --groups sudo {PEOPLE[0]}
{_ENVIRONMENT_SETUP}
for person in {" ".join(PEOPLE)}; do
    chown -R "$person:$person" "/home/$person"
    chmod 700 "/home/$person"
done
{_IMAGE_SETUP}
"""

BOOTED: Final = (
    (
        f"docker import --change 'ENV PATH={LAB_VENV}/bin:/usr/local/bin:/usr/bin:/bin'"
        " --change 'ENV LANG=C.UTF-8' --change 'ENV SHELL=/bin/bash'"
        f" --change 'CMD [\"jupyterhub-singleuser\"]' {LAB_TAR} {LAB_IMAGE} >/dev/null"
    ),
)
