"""What lies in the guest: its packages, the files laid into it, and the script that sets it up.

Plain values, so that `recipe` can tell when any of them has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

GUEST_ADDRESS = "10.0.2.15"
"""The one that QEMU's user network forwards to when told no other."""

WHEELS = "/var/cache/enforcer/wheels"
LOCKS = "/var/cache/enforcer/locks"
SETUP_PATH = "/var/cache/enforcer/setup.sh"
VENV = "/opt/enforcer/venv"
STAMP = ".requirements.sha256"
"""In a venv: the sha256 of the lock file it was made from, so that `install` keeps it."""

SOURCE = "/usr/local/src/enforcer"
DEMO_IMAGE = "enforcer-demo:latest"
DEMO_TAR = "/var/lib/enforcer-demo/image.tar"
KERNEL = "/boot/guest-kernel"
INITRD = "/boot/guest-initrd"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
SWAP_FILE = "/swapfile"
SWAP = "2G"

MEMORY_MIB = 4096
DISK_GIB = 10
DISK_OPTIONS = ("-t", "ext4", "-L", "root", "-m", "0", "-J", "size=32", "-E", "root_owner=0:0")

# noinit_itable: nothing is to write inode tables behind the tests' backs. mitigations=off: an
# emulated processor pays dearly for them, and there is nobody to attack. panic: two emulated
# processors may trip over the kernel's rewriting its own code (an int3 nobody knows of), mostly in
# a boot; then it begins anew instead of standing still.
KERNEL_ARGUMENTS = (
    "root=/dev/vda rw rootflags=noinit_itable console=ttyS0 psi=1 net.ifnames=0 apparmor=0"
    " mitigations=off panic=1 quiet"
)

PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "curl",
    "dbus",
    "docker.io",
    "gcc",
    "iproute2",
    "jq",
    "less",
    "libpam-systemd",
    "libsystemd-dev",
    "linux-image-cloud-amd64",
    "openssh-server",
    "pkg-config",
    "procps",
    "prometheus",
    "python3",
    "python3-dev",
    "python3-venv",
    "stress-ng",
    "systemd",
    "systemd-sysv",
    "udev",
)
"""libpam-systemd, because on a real host a login is a session in user.slice. No apparmor: it would
have every container wait for its parser."""

EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the guest: absolute path, text, permissions; root owns it."""

    path: str
    text: str
    mode: int = 0o644


# An initrd with nothing but the root disk's driver: quicker to make, and to unpack while booting.
EARLY = (
    File("/etc/initramfs-tools/conf.d/guest", "MODULES=list\nCOMPRESS=gzip\n"),
    File("/usr/share/initramfs-tools/modules.d/guest", "virtio_pci\nvirtio_blk\next4\n"),
)

_NETWORK = f"""\
[Match]
Name=eth0

[Network]
Address={GUEST_ADDRESS}/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
"""

_SSHD = """\
# Every command of a test is a session on one connection.
MaxSessions 1000
MaxStartups 100
PermitRootLogin prohibit-password
PasswordAuthentication no
PrintLastLog no
PrintMotd no
"""

_JOURNALD = """\
[Journal]
Storage=volatile
RuntimeMaxUse=64M
RateLimitBurst=0
"""

FILES = (
    File("/etc/systemd/network/guest.network", _NETWORK),
    File("/etc/ssh/sshd_config.d/guest.conf", _SSHD),
    File("/etc/systemd/journald.conf.d/guest.conf", _JOURNALD),
    File("/etc/fstab", "/dev/vda / ext4 noinit_itable 0 0\n"),
    File("/etc/hostname", "guest\n"),
    File("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 guest\n::1 localhost\n"),
    File("/etc/resolv.conf", "nameserver 10.0.2.3\n"),
)

QUIET_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "logrotate.timer",
    "man-db.timer",
    "prometheus-node-exporter-collectors.timer",
    "serial-getty@ttyS0.service",
    "systemd-networkd-wait-online.service",
    "systemd-tmpfiles-clean.timer",
)
"""Masked: what wakes up by itself would show in the measurements."""

VENV_SETUP = f"""\
python3 -m venv {{path}}
{{path}}/bin/pip install --quiet --no-index --find-links {WHEELS} --no-deps --require-hashes \\
    --no-input --disable-pip-version-check --root-user-action=ignore -r {{lock}}
sha256sum {{lock}} | cut -d ' ' -f 1 > {{path}}/{STAMP}
"""
"""For each virtual environment: its `path`, and the path of its `lock` file in the guest."""

# The demo's image is usr-merged, so that a bind mount of the guest's own /usr brings it everything,
# Python included; without that mount its /usr/bin is busybox's.
SETUP = f"""\
systemd-machine-id-setup  # without one, the first boot would enable every unit there is
systemctl enable systemd-networkd.service ssh.service docker.service
systemctl disable prometheus.service prometheus-node-exporter.service 2>/dev/null || true
systemctl mask {" ".join(QUIET_UNITS)}

image=$(mktemp -d)
cd "$image"
mkdir -p busybox dev etc home opt proc root run srv sys tmp var/tmp
mkdir -p usr/bin usr/lib usr/lib64 usr/sbin
chmod 1777 tmp var/tmp
for folder in bin lib lib64 sbin; do ln -s "usr/$folder" "$folder"; done
cp /bin/busybox busybox/busybox
for applet in $(busybox --list | grep -vx busybox); do
    ln -s busybox "busybox/$applet"
    ln -s /busybox/busybox "usr/bin/$applet"
done
cp /etc/passwd /etc/group /etc/nsswitch.conf etc/
mkdir -p {DEMO_TAR.rpartition("/")[0]}
tar --owner=0 --group=0 --numeric-owner -cf {DEMO_TAR} .
cd /
rm -r "$image"

cp -L /vmlinuz {KERNEL}
cp -L /initrd.img {INITRD}
"""

BOOTED = (
    # With the first CPU quota, and after the last, the kernel rewrites its scheduler's code, which
    # two emulated processors may trip over (see KERNEL_ARGUMENTS). So there always is one.
    "systemctl set-property user.slice CPUQuota=100000%",
    # Here and not in the disk's making: mke2fs would leave holes, which swapon refuses.
    f"fallocate -l {SWAP} {SWAP_FILE} && chmod 600 {SWAP_FILE} && mkswap {SWAP_FILE} >/dev/null",
    f"echo '{SWAP_FILE} none swap sw 0 0' >> /etc/fstab",
    "systemctl daemon-reload && systemctl start swap.target",
    (
        "docker import --change 'ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin:/busybox'"
        f' --change \'CMD ["sleep", "infinity"]\' {DEMO_TAR} {DEMO_IMAGE} >/dev/null'
    ),
    # What the first container reads from the disk need not be read again.
    f"docker run --rm {DEMO_IMAGE} true",
)
"""Run once in the booted guest, before it is saved."""
