#!/bin/sh
# Runs `fieldseal keys` on the key file of fieldseal.service: as its user, so that
# the service can read what is written, and with its secret.
#
#   fieldseal-keys.sh init
#   fieldseal-keys.sh rotate default
#
# The running service takes up the new file within seconds.
set -eu
# The variable is the unit's, and not known before it runs.
# shellcheck disable=SC2016
exec systemd-run --quiet --pipe --wait --collect --service-type=exec \
    --property=DynamicUser=yes --property=User=fieldseal --property=UMask=0077 \
    --property=StateDirectory=fieldseal --property=StateDirectoryMode=0700 \
    --property=LoadCredential=unseal:/etc/fieldseal/secrets/unseal \
    --property=PrivateNetwork=yes --property=ProtectHome=yes --property=PrivateDevices=yes \
    --property=CapabilityBoundingSet= --property=LimitCORE=0 --property=MemorySwapMax=0 \
    --setenv=FIELDSEAL__KEYRING__FILE=/var/lib/fieldseal/keyring.json \
    --working-directory=/etc/fieldseal \
    /bin/sh -c 'export FIELDSEAL__KEYRING__UNSEAL__FILE="$CREDENTIALS_DIRECTORY/unseal"
                exec /usr/local/bin/fieldseal keys "$@"' fieldseal-keys "$@"
