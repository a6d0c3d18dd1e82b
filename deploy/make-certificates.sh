#!/bin/sh
# Makes a certificate authority and one server certificate that it signs, for networks that have no authority of
# their own. Keep ca.key somewhere else: whoever has it can pretend to be any server.
#
#   ./make-certificates.sh DIRECTORY NAME...     such as: ./make-certificates.sh tls nats-0 nats-1 nats-2
#
# NAME: each DNS name or IP address under which the servers are reached. Writes ca.crt, ca.key, tls.crt and tls.key.
# The certificate is for both sides, because the servers of a cluster are each other's clients. Valid for a year.
set -eu
[ $# -ge 2 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
umask 077
mkdir -p "$1"
cd "$1"
shift
[ ! -e ca.key ] || { echo "there is an authority in $(pwd) already; nothing was changed" >&2; exit 1; }
names=
for name in "$@"; do
  case $name in
    *:*) names="$names,IP:$name" ;;
    *[!0-9.]*) names="$names,DNS:$name" ;;
    *) names="$names,IP:$name" ;;
  esac
done
cat > .request.cnf <<END
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = ${names#,}
END
curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $curve -keyout ca.key -out ca.crt -days 3650 -subj "/CN=NATS authority" \
  -config .request.cnf -extensions authority 2> .log || { cat .log >&2; exit 1; }
# shellcheck disable=SC2086
openssl req $curve -keyout tls.key -out .request.csr -subj "/CN=$1" -config .request.cnf 2> .log ||
  { cat .log >&2; exit 1; }
openssl x509 -req -in .request.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out tls.crt \
  -extfile .request.cnf -extensions server 2> .log || { cat .log >&2; exit 1; }
rm -f .request.csr .request.cnf .log ca.srl
chmod 644 ca.crt tls.crt
