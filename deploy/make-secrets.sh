#!/bin/sh
# Makes the unseal secret of docker-compose.yml: 32 random bytes, in base64.
# An existing one is left alone, since the key file opens with no other.
set -eu
umask 077
folder=$(dirname "$0")/secrets
secret=$folder/fieldseal_unseal
mkdir -p "$folder"
chmod 700 "$folder"
if [ -e "$secret" ]; then
    echo "$secret is there already" >&2
    exit 0
fi
head -c 32 /dev/urandom | base64 >"$secret.new"
# Compose mounts the file itself, with its mode, and the container's user is not
# its owner. On this machine the folder keeps other users out.
chmod 444 "$secret.new"
mv "$secret.new" "$secret"
echo "made $secret; keep a copy, apart from the key file" >&2
