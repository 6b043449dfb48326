# Run once in the demo's machine: the tests' policy, users and light image.
set -eu
here=tests/machine/hub

for number in $(seq -w 1 12); do
    useradd --create-home --shell /bin/bash "u$number"
done
for person in alice frank grace u01 u02; do
    echo "$person:a-password-for-tests"
done | chpasswd

image=$(mktemp -d)
tar -x -f /var/lib/enforcer-demo/lab.tar -C "$image"
cp $here/inside/light.py "$image/light.py"
tar -c -C "$image" . | docker import \
    --change 'ENV PATH=/usr/bin:/bin' --change 'CMD ["/usr/bin/python3", "-ISu", "/light.py"]' \
    - light:latest >/dev/null
rm -r "$image"

install -m 644 $here/enforcer.toml /etc/enforcer/enforcer.toml
enforcer reload
install -m 644 $here/hub.conf /etc/jupyterhub/conf.d/tests.py
systemctl restart jupyterhub

hub=http://127.0.0.1:8000
token=0123456789abcdef-the-labs-own
for _ in $(seq 600); do
    curl -fs -o /dev/null $hub/hub/health && break
    sleep 1
done
people=$(seq -w 1 12 | sed 's/.*/"u&"/' | paste -sd ,)
curl -fsS -o /dev/null -H "Authorization: token $token" \
    -d "{\"usernames\": [\"alice\", \"frank\", \"grace\", $people]}" $hub/hub/api/users
# A first container, so that the tests' need not read everything from the disk.
docker run --rm --network=none -v /usr:/usr:ro light:latest true
