#!/bin/sh
# Makes what docker-compose.yml mounts as secrets, in deploy/secrets/. What is
# there already is left alone; to renew something, remove it and run this again.
#
#   sudo deploy/make-secrets.sh    each file belongs to the one user that reads it
#   deploy/make-secrets.sh         without root: see `give` below
#
# Certificates are made by `fieldseal certs`: by the program that FIELDSEAL
# names, else by the one on PATH, else by the image (`docker compose build` first).
set -eu
umask 077

# The users of the containers: of the proxy's image, and of mongo:6.0.
proxy_user=65532
mongod_user=999

folder=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$folder"
chmod 700 "$folder"
work=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# Puts a file in its place, readable by one user of a container and nobody else.
# Compose mounts files with the owner and mode that they have here, and only
# root can give files away: others leave them readable, in a folder that keeps
# other users of this machine out.
give() {
    if [ "$(id -u)" -eq 0 ]; then
        chown "$1:$1" "$2"
        chmod 400 "$2"
    else
        chmod 444 "$2"
    fi
    mv "$2" "$folder/$3"
    echo "made $folder/$3" >&2
}

# Random bytes in base64 on one line, under a name; the last two digits may be others.
random() {
    if [ -e "$folder/$3" ]; then
        echo "$folder/$3 is there already" >&2
        return
    fi
    head -c "$2" /dev/urandom | base64 | tr -d '\n' | tr '+/' "${4:-+/}" >"$work/random"
    give "$1" "$work/random" "$3"
}

certs() {
    if [ -n "${FIELDSEAL:-}" ]; then
        "$FIELDSEAL" certs "$work/$1" --host "$2" --days 825 >/dev/null
    elif command -v fieldseal >/dev/null; then
        fieldseal certs "$work/$1" --host "$2" --days 825 >/dev/null
    else
        docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$work:/certs" \
            fieldseal:0.1.0 certs "/certs/$1" --host "$2" --days 825 >/dev/null
    fi
}

# Whether a set of certificates is still to be made.
missing() {
    for file in "$folder/$1"_*.pem; do
        if [ -e "$file" ]; then
            echo "$file is there already, so the certificates of $1 are left alone" >&2
            return 1
        fi
    done
}

random $proxy_user 32 fieldseal_unseal
# What members of the replica set know each other by.
random $mongod_user 512 mongodb_keyfile
# Passwords that a connection string takes as they are.
random $mongod_user 24 mongodb_admin_password _-
random $mongod_user 24 mongodb_service_password _-

# Two authorities that know nothing of each other: with a certificate of a
# service nobody gets into MongoDB, past the proxy. MongoDB's signs for mongod
# itself and for the proxy, and then its key is thrown away: nobody can make a
# third certificate that mongod lets in.
if missing database; then
    certs database mongodb
    give $proxy_user "$work/database/proxy.pem" database_proxy.pem
    give $mongod_user "$work/database/mongod.pem" database_mongod.pem
    chmod 444 "$work/database/ca.pem"
    mv "$work/database/ca.pem" "$folder/database_ca.pem"
fi

# The key of this one stays, for further services: keep it elsewhere.
if missing services; then
    certs services fieldseal
    give $proxy_user "$work/services/proxy.pem" services_proxy.pem
    chmod 444 "$work/services/ca.pem"
    mv "$work/services/ca.pem" "$folder/services_ca.pem"
    for file in client.pem ca-key.pem; do
        # Not for a container: for who runs this.
        [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$work/services/$file"
        mv "$work/services/$file" "$folder/services_$file"
    done
fi
echo "keep a copy of $folder/fieldseal_unseal, apart from the key file" >&2
