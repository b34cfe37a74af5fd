#!/bin/sh
# Makes a Debian package of a program that is built already.
#
#   packaging/debian.sh [PROGRAM [FOLDER]]
#
# PROGRAM is target/release/fieldseal unless given; the package is put into FOLDER, target/debian
# unless given, and its path is printed. Needs dpkg-deb, and gzip; dpkg-shlibdeps (package
# dpkg-dev) finds out which C library the program needs.
set -eu
umask 022
# Lists are sorted the same everywhere.
export LC_ALL=C

root=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$root/target/release/fieldseal}
folder=${2:-$root/target/debian}
[ -x "$program" ] || { echo "$program is not there: run \`make build\` first" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
architecture=$(dpkg --print-architecture)
# The same package from the same commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
pages=$tree/usr/share/doc/fieldseal

install -D -m 755 "$program" "$tree/usr/bin/fieldseal"
strip --strip-unneeded "$tree/usr/bin/fieldseal" 2>/dev/null || true

# The unit and the script beside it name the place of a program that was built by hand, and how
# to put it there.
install -d "$tree/lib/systemd/system" "$tree/usr/sbin"
for pair in fieldseal.service:lib/systemd/system/fieldseal.service fieldseal-keys.sh:usr/sbin/fieldseal-keys; do
    sed '/^#   install /d; /^#$/d; s|/usr/local/bin/fieldseal|/usr/bin/fieldseal|g
        s|deploy/fieldseal-keys\.sh|/usr/sbin/fieldseal-keys|g; s|fieldseal-keys\.sh|fieldseal-keys|g' \
        "$root/deploy/${pair%%:*}" > "$tree/${pair#*:}"
done
chmod 755 "$tree/usr/sbin/fieldseal-keys"

# A configuration that is complete, and seals nothing until it is edited: see postinst.
install -D -m 644 "$root/fieldseal.example.toml" "$tree/etc/fieldseal/fieldseal.toml"
install -D -m 644 "$root/schema/musiccorp.toml" "$tree/etc/fieldseal/schema/musiccorp.toml"
install -d -m 700 "$tree/etc/fieldseal/secrets"
install -D -m 644 "$root/schema/fieldseal.schema.json" "$tree/usr/share/fieldseal/fieldseal.schema.json"

# Dashboards and alerts, where there are any.
for part in grafana prometheus; do
    if [ -d "$root/deploy/$part" ]; then
        install -d "$tree/usr/share/fieldseal/$part"
        find "$root/deploy/$part" -maxdepth 1 -type f -exec install -m 644 {} "$tree/usr/share/fieldseal/$part/" \;
    fi
done

# Manual pages and completions, from a program that has them.
if "$program" man --help >/dev/null 2>&1; then
    mkdir "$work/man"
    "$program" man "$work/man" >/dev/null
    install -d "$tree/usr/share/man/man1"
    for page in "$work"/man/*.1; do
        gzip -9n < "$page" > "$tree/usr/share/man/man1/$(basename "$page").gz"
    done
    install -d "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
        "$tree/usr/share/fish/vendor_completions.d"
    "$program" completions bash > "$tree/usr/share/bash-completion/completions/fieldseal"
    "$program" completions zsh > "$tree/usr/share/zsh/vendor-completions/_fieldseal"
    "$program" completions fish > "$tree/usr/share/fish/vendor_completions.d/fieldseal.fish"
fi

install -d "$pages/docs"
install -m 644 "$root/README.md" "$root/SECURITY.md" "$root/ARCHITECTURE.md" "$pages/"
install -m 644 "$root"/docs/*.md "$pages/docs/"
install -m 644 "$root/packaging/copyright" "$pages/copyright"
gzip -9n < "$root/CHANGELOG.md" > "$pages/changelog.gz"
if command -v python3 >/dev/null && command -v cargo >/dev/null; then
    python3 "$root/packaging/dependencies.py" sbom | gzip -9n > "$pages/sbom.cdx.json.gz"
    chmod 644 "$pages/sbom.cdx.json.gz"
fi

# Which versions of the C library it runs with.
needs="libc6, libgcc-s1"
if command -v dpkg-shlibdeps >/dev/null; then
    mkdir -p "$work/debian"
    touch "$work/debian/control"
    found=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info tree/usr/bin/fieldseal 2>/dev/null || true)
    needs=${found#shlibs:Depends=}
    needs=${needs:-libc6, libgcc-s1}
fi

# In kibibytes, of the files themselves: what `du` says is of this machine's disk.
size=$(find "$tree" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')

control=$tree/DEBIAN
install -d "$control"
cat > "$control/control" <<EOF
Package: fieldseal
Version: $version
Architecture: $architecture
Maintainer: Fieldseal <fieldseal@localhost>
Installed-Size: $size
Depends: $needs
Recommends: systemd
Section: database
Priority: optional
Description: encrypting proxy for MongoDB
 Fieldseal seals the fields that a schema names before a write leaves for
 MongoDB, and opens them again in every reply. MongoDB, its disks, its backups
 and its administrators only ever see ciphertext, while equality queries, unique
 indexes and joins go on working. Services need no change of code.
EOF
(cd "$tree" && find etc -type f | sort | sed 's|^|/|') > "$control/conffiles"
(cd "$tree" && find usr lib -type f -exec md5sum {} + | sort -k 2) > "$control/md5sums"
for script in postinst prerm postrm; do
    install -m 755 "$root/packaging/$script" "$control/$script"
done

mkdir -p "$folder"
package=$folder/fieldseal_${version}_${architecture}.deb
# The times of files are those of the commit, so that they say nothing of this build.
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >/dev/null
echo "$package"
