#!/bin/sh
# Certificates for gateways and workers on different machines, by an authority of your own:
#
#   sh deploy/make_certificates.sh FOLDER NAME...
#
# One per NAME: the host name or address under which the gateway's CHAT_WORKERS and EMBED_WORKERS
# name that worker; any name for a gateway. FOLDER/ca.key stays where it is, the rest is copied to
# the machines: ca.pem, NAME.pem and NAME.key. An authority that is there already is used again.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: sh $0 FOLDER NAME..." >&2
    exit 2
fi
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
umask 077

if [ ! -f ca.key ]; then
    openssl req -x509 -newkey rsa:3072 -sha256 -nodes -days 3650 -subj "/CN=Y26HKX workers" \
        -keyout ca.key -out ca.pem 2>/dev/null
fi

for name in "$@"; do
    case $name in
        *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) alternative="IP:$name" ;;
        *) alternative="DNS:$name" ;;
    esac
    extensions=$(mktemp)
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$alternative" \
        >"$extensions"
    openssl req -new -newkey rsa:3072 -sha256 -nodes -subj "/CN=$name" \
        -keyout "$name.key" -out "$name.csr" 2>/dev/null
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 820 \
        -extfile "$extensions" -out "$name.pem" 2>/dev/null
    rm -f "$name.csr" "$extensions"
done
echo "certificates of $* are in $folder"
