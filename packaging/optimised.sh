#!/usr/bin/env bash
# Builds fieldseal as fast as it gets: the whole program optimised at once, by what a run of it showed
# (profile-guided optimisation). Takes two builds, of about ten minutes each on two cores.
#
#   packaging/optimised.sh          puts it at target/optimised/fieldseal
#
# Needs an llvm-profdata that reads what this rustc writes: that of `rustup component add llvm-tools`, one named by
# LLVM_PROFDATA, or one on PATH (Debian 12: llvm-19). PYTHON is a Python with tests/tools/requirements.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
folder=$PWD/target/optimised
rm -rf "$folder/seen" "$folder/profile"
mkdir -p "$folder"

# One that does not read these profiles is found here, and not after the first build.
reads() {
    local try=$folder/try
    rm -rf "$try" && mkdir "$try"
    echo 'fn main() {}' > "$try/main.rs"
    rustc -Cprofile-generate="$try/seen" -o "$try/main" "$try/main.rs" && "$try/main" \
        && "$1" merge -o "$try/profile" "$try/seen" 2> "$try/error"
}
merge=
for candidate in "${LLVM_PROFDATA:-}" "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
    llvm-profdata $(compgen -c llvm-profdata- | sort -urV); do
    if [ -n "$candidate" ] && command -v "$candidate" > /dev/null && reads "$candidate"; then
        merge=$candidate
        break
    fi
done
rm -rf "$folder/try"
if [ -z "$merge" ]; then
    echo "there is no llvm-profdata here that reads the profiles of $(rustc -V): rustup component add llvm-tools" >&2
    exit 1
fi

# The profile is found by names that the settings of a build are in: both are built alike.
build() {
    RUSTFLAGS="${RUSTFLAGS:-} $1" CARGO_PROFILE_RELEASE_LTO=fat CARGO_TARGET_DIR=$folder \
        "${CARGO:-cargo}" build --locked --release --bin fieldseal --target "$host"
}

build "-Cprofile-generate=$folder/seen"
"${PYTHON:-python3}" packaging/train.py "$folder/$host/release/fieldseal"
"$merge" merge -o "$folder/profile" "$folder/seen"
# What is hot lies together, so that it takes a few pages of memory and not a hundred.
build "-Cprofile-use=$folder/profile -Clink-arg=-Wl,-z,keep-text-section-prefix"
cp "$folder/$host/release/fieldseal" "$folder/fieldseal"
echo "$folder/fieldseal"
