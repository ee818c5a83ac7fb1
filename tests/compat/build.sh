#!/bin/sh
# Builds the programs that the compatibility tests compare with and drive:
# the real etcd 3.7 into bin/, the real etcd 3.6 into etcd36/bin/, the clients in
# other languages into python/venv and tonic/target.
# A folder whose stamp matches the lock files and the toolchain is left alone.
set -eu

cd "$(dirname "$0")"
export GOTOOLCHAIN=local CGO_ENABLED=0

# build FOLDER NAME=PACKAGE...
build() {
    folder=$1
    shift
    (
        cd "$folder"
        stamp=$( (go version; cat go.mod go.sum; echo "$@") | cksum)
        for pair in "$@"; do
            [ -x "bin/${pair%%=*}" ] || stamp="$stamp missing"
        done
        if [ "$(cat bin/.stamp 2>/dev/null || true)" = "$stamp" ]; then
            exit 0
        fi
        mkdir -p bin
        rm -f bin/.stamp
        done_count=0
        for pair in "$@"; do
            done_count=$((done_count + 1))
            echo "compat: $folder: building ${pair%%=*} ($done_count of $#)" >&2
            go build -trimpath -buildvcs=false -o "bin/${pair%%=*}" "${pair#*=}"
        done
        (go version; cat go.mod go.sum; echo "$@") | cksum >bin/.stamp
    )
}

build . \
    etcd=go.etcd.io/etcd/server/v3 \
    etcdctl=go.etcd.io/etcd/etcdctl/v3 \
    etcdutl=go.etcd.io/etcd/etcdutl/v3 \
    benchmark=go.etcd.io/etcd/v3/tools/benchmark \
    bbolt=go.etcd.io/bbolt/cmd/bbolt \
    h2spec=github.com/summerwind/h2spec/cmd/h2spec
build etcd36 \
    etcd=go.etcd.io/etcd/server/v3 \
    etcdctl=go.etcd.io/etcd/etcdctl/v3 \
    etcdutl=go.etcd.io/etcd/etcdutl/v3 \
    benchmark=go.etcd.io/etcd/v3/tools/benchmark \
    etcd-dump-logs=go.etcd.io/etcd/v3/tools/etcd-dump-logs

# Only what the lock files have the hashes of.
(
    cd python
    stamp=$( (python3 --version; cat requirements-build.txt requirements.txt) | cksum)
    if [ "$(cat venv/.stamp 2>/dev/null || true)" != "$stamp" ]; then
        echo "compat: python: installing the client" >&2
        rm -rf venv
        python3 -m venv venv
        for requirements in requirements-build.txt requirements.txt; do
            venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
                --no-build-isolation -r "$requirements"
        done
        echo "$stamp" >venv/.stamp
    fi
)

echo "compat: tonic: building the client" >&2
cargo build --quiet --locked --manifest-path tonic/Cargo.toml --target-dir tonic/target
