#!/bin/bash
# Starts the lab of docker-compose.yml, sends mail through it each way and through faults, reads the
# TLS versions in the logs, and takes it down. Exit 0 when every check passed.
#
#   --keep        leave the lab running afterwards
#   --no-build    take the images as they are
# Not pipefail: `grep -q` leaves as soon as it has seen enough, which its writer takes badly.
set -u
cd "$(dirname "$0")"

keep=
build=1
for option in "$@"; do
    case "$option" in
        --keep) keep=1 ;;
        --no-build) build= ;;
        *) echo "usage: $0 [--keep] [--no-build]" >&2; exit 2 ;;
    esac
done
passed=0
failed=0

compose() {
    docker-compose -p gatepost-lab "$@"
}

# check WHAT COMMAND…: one result.
check() {
    local what="$1"
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what"
    fi
}

# within SECONDS COMMAND…: until it succeeds, bounded.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

healthy() {
    [ "$(docker inspect -f '{{.State.Health.Status}}' "$(compose ps -q "$1")" 2>/dev/null)" = healthy ]
}

postfix_answers() {
    compose exec -T smarthost sh -c 'swaks --server 127.0.0.1 --quit-after banner --silent 3' >/dev/null 2>&1
}

# send SERVICE SERVER SWAKS-ARGUMENTS…: from a container, silent unless refused.
send() {
    local service="$1" server="$2"
    shift 2
    compose exec -T "$service" swaks --server "$server" --timeout 20 --hide-all "$@"
}

# in_mailbox TEXT, at_smarthost TEXT: whether a delivered message holds it.
in_mailbox() {
    compose exec -T mailbox sh -c 'cat /var/lib/gatepost/mail/contoso.test/don/new/*' 2>/dev/null | grep -q "$1"
}

at_smarthost() {
    compose exec -T smarthost sh -c 'cat /var/mail/lab/all/new/*' 2>/dev/null | grep -q "$1"
}

# protocol_log SERVICE SmtpReceive|SmtpSend PATTERN
protocol_log() {
    compose exec -T "$1" sh -c "cat /var/log/gatepost/ProtocolLog/$2/*.LOG" 2>/dev/null | grep -Eq "$3"
}

diagnostics() {
    compose logs --no-color "$1" 2>/dev/null | grep -Eq "$2"
}

if [ -n "$build" ]; then
    ./base-images.sh || exit 1
    compose build -q || exit 1
fi
python3 certificates.py base/tls || exit 1
compose down -v --remove-orphans >/dev/null 2>&1
# shellcheck disable=SC2317 # called by the trap
finish() {
    [ "$failed" = 0 ] || compose logs --no-color --tail 40 edge mailbox smarthost
    [ -n "$keep" ] || compose down -v --remove-orphans >/dev/null 2>&1
}
trap finish EXIT
compose up -d --no-build >/dev/null 2>&1 || { compose up -d --no-build; exit 1; }

check "the edge is healthy" within 60 healthy edge
check "the mailbox server is healthy" within 60 healthy mailbox
check "the smart host answers" within 30 postfix_answers
[ "$failed" = 0 ] || exit 1

# In: from the internet, by a client of each kind.
inbound=(smarthost edge.contoso.test --from ann@fabrikam.test --to don@contoso.test)
check "a message over TLS 1.3 is taken" send "${inbound[@]}" --tls --tls-protocol tlsv1_3 --header "Subject: in-tls13"
check "a message over TLS 1.2 is taken" send "${inbound[@]}" --tls --tls-protocol tlsv1_2 --header "Subject: in-tls12"
check "a message in clear text is taken" send "${inbound[@]}" --header "Subject: in-plain"
check "Postfix hands a message in" send smarthost 127.0.0.1 --tls --from ann@fabrikam.test --to don@contoso.test --header "Subject: in-postfix"
for subject in in-tls13 in-tls12 in-plain in-postfix; do
    check "$subject lies in the mailbox" within 30 in_mailbox "Subject: $subject"
done
check "the edge's Received names the TLS version" in_mailbox "version=TLS1_3"
refuses_relay() {
    compose exec -T smarthost swaks --server edge.contoso.test --from ann@fabrikam.test --to eve@elsewhere.test \
        | grep -q '<\*\* 550 5.7.54 '
}
check "the edge relays nothing for strangers" refuses_relay

# Out: from a desk, by the mailbox server, the edge and Postfix.
outbound=(desk mailbox.contoso.test --tls --from don@contoso.test --to ann@fabrikam.test)
check "the mailbox server takes a message" send "${outbound[@]}" --header "Subject: out-plain-sailing"
check "it lies at the smart host" within 30 at_smarthost "Subject: out-plain-sailing"
check "mail that nobody wants is taken" send desk mailbox.contoso.test --tls --from don@contoso.test \
    --to eve@elsewhere.test --header "Subject: out-nowhere"
check "its sender is told that Postfix refused it" within 30 in_mailbox "Subject: Undeliverable: out-nowhere"
check "the report says why" in_mailbox "Diagnostic-Code: smtp;554 5.7.1"

# What the logs say of TLS.
check "TLS 1.3 in is in the edge's protocol log" within 10 protocol_log edge SmtpReceive "TLS protocol SP_PROT_TLS1_3"
check "TLS 1.2 in is in the edge's protocol log" within 10 protocol_log edge SmtpReceive "TLS protocol SP_PROT_TLS1_2"
check "clear text in is in the edge's protocol log" within 10 protocol_log edge SmtpReceive "No TLS: the session stayed in plain text"
check "TLS 1.3 out is in the edge's protocol log" within 10 protocol_log edge SmtpSend "TLS protocol SP_PROT_TLS1_3"
check "a session event names TLS 1.3" within 10 diagnostics edge 'session.*TLS1_3'
check "Postfix saw TLS 1.3 and our certificate" within 10 diagnostics smarthost 'Trusted TLS connection established from .*TLSv1.3'

# A fault: the smart host is away, the edge dies without warning; nothing is lost.
compose stop smarthost >/dev/null 2>&1
check "mail is taken while the smart host is away" send "${outbound[@]}" \
    --header "Subject: out-through-a-crash" --header "Message-Id: <out-through-a-crash@desk>"
check "the edge holds it" within 30 \
    protocol_log edge SmtpReceive '250 2.6.0 <out-through-a-crash@desk>.*Queued mail for delivery'
compose kill -s KILL edge >/dev/null 2>&1
compose start edge smarthost >/dev/null 2>&1
check "the edge is healthy again" within 60 healthy edge
check "the message arrives after the crash" within 60 at_smarthost "Subject: out-through-a-crash"

# The end.
compose stop -t 10 edge >/dev/null 2>&1
exit_code() {
    [ "$(docker inspect -f '{{.State.ExitCode}}' "$(compose ps -q edge)")" = 0 ]
}
check "the edge stops cleanly" exit_code

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
