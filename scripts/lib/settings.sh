# The settings that the scripts share: folders, and where each service listens. To be sourced.
#
# Every variable here can be set from outside; two copies of Tandem run side by side when
# TANDEM_VAR, the three *_LISTEN and TANDEM_REDIS_PORT differ. The names are those of the services'
# own settings, so what is exported here is what they read.
# shellcheck shell=bash disable=SC2034

tandem_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tandem_lib=$tandem_root/scripts/lib

# The list of contexts: their names, and of each the contexts whose events it reads.
declare -A tandem_reads=() tandem_listen=() tandem_admin_listen=()
tandem_contexts=()
while read -r tandem_name tandem_reads_of tandem_at tandem_admin_at _; do
	case $tandem_name in '' | '#'*) continue ;; esac
	tandem_contexts+=("$tandem_name")
	tandem_reads[$tandem_name]=${tandem_reads_of//[,-]/ }
	tandem_listen[$tandem_name]=$tandem_at
	tandem_admin_listen[$tandem_name]=$tandem_admin_at
done <"$tandem_root/contexts"
tandem_listen[gateway]=127.0.0.1:50051
tandem_admin_listen[gateway]=127.0.0.1:9101
tandem_listen[console]=127.0.0.1:8088
tandem_admin_listen[console]=127.0.0.1:9105
tandem_services=("${tandem_contexts[@]}" gateway console) # in the order of starting

export TANDEM_VAR TANDEM_BUILD
TANDEM_VAR=$(realpath -m -- "${TANDEM_VAR:-$tandem_root/var}")
TANDEM_BUILD=$(realpath -m -- "${TANDEM_BUILD:-$tandem_root/build}")

export TANDEM_REDIS_PORT=${TANDEM_REDIS_PORT:-6390}

# tandem_layout_read: what the store is made of: its masters, the replicas of each, its partitions. Fixed
# when it is made, in the file layout; before that one Redis with TANDEM_PARTITIONS. Sets tandem_nodes, the
# names of Redis's processes: "redis", or those of a cluster.
tandem_layout_read() {
	tandem_masters=1 tandem_replicas=0 tandem_partitions=${TANDEM_PARTITIONS:-1}
	if [ -e "$TANDEM_VAR/layout" ]; then
		read -r tandem_masters tandem_replicas tandem_partitions <"$TANDEM_VAR/layout"
	fi
	tandem_nodes=(redis)
	if [ "$tandem_masters" -gt 1 ]; then
		mapfile -t tandem_nodes < <(seq -f 'redis-%g' $((tandem_masters * (1 + tandem_replicas))))
		TANDEM_REDIS=cluster://$(seq -s , -f '127.0.0.1:%g' "$TANDEM_REDIS_PORT" \
			$((TANDEM_REDIS_PORT + ${#tandem_nodes[@]} - 1)))
		export TANDEM_REDIS
	fi
}
tandem_layout_read

# The port of one of Redis's processes: "redis" and "redis-1" have the first.
tandem_node_port() {
	local number=${1#redis}
	number=${number#-}
	echo $((TANDEM_REDIS_PORT + ${number:-1} - 1))
}

# tandem_admin LISTEN STANDARD_LISTEN STANDARD_ADMIN: prints the admin address of a service that
# listens at LISTEN: the standard one at the standard address; else the same host, 1000 ports above
# (below, when there is no room).
tandem_admin() {
	local port=${1##*:}
	if [ "$1" = "$2" ] || [[ ! $port =~ ^[0-9]+$ ]]; then
		echo "$3"
	elif [ "$port" -le 64535 ]; then
		echo "${1%:*}:$((port + 1000))"
	else
		echo "${1%:*}:$((port - 1000))"
	fi
}
# tandem_set VARIABLE STANDARD: exports what it is set to, or the standard.
tandem_set() {
	[ -n "${!1-}" ] || printf -v "$1" %s "$2"
	export "${1?}"
}
# Beside a gateway at another port the console and what is served over HTTP have other ones, too: 2000 and 4000 above, or, when
# there is no room, 3000 and 4000 below. What is left between them is for admin ports.
tandem_gateway_at=${TANDEM_GATEWAY_LISTEN-}
tandem_gateway_at=${tandem_gateway_at##*:}
if [[ ! $tandem_gateway_at =~ ^[0-9]+$ ]] || [ "$TANDEM_GATEWAY_LISTEN" = "${tandem_listen[gateway]}" ]; then
	tandem_set TANDEM_GATEWAY_HTTP_LISTEN 127.0.0.1:50080
elif [ "$tandem_gateway_at" -le 61535 ]; then
	tandem_set TANDEM_CONSOLE_LISTEN "127.0.0.1:$((tandem_gateway_at + 2000))"
	tandem_set TANDEM_GATEWAY_HTTP_LISTEN "127.0.0.1:$((tandem_gateway_at + 4000))"
else
	tandem_set TANDEM_CONSOLE_LISTEN "127.0.0.1:$((tandem_gateway_at - 3000))"
	tandem_set TANDEM_GATEWAY_HTTP_LISTEN "127.0.0.1:$((tandem_gateway_at - 4000))"
fi
for tandem_name in "${tandem_services[@]}"; do
	tandem_set "TANDEM_${tandem_name^^}_LISTEN" "${tandem_listen[$tandem_name]}"
	tandem_at=TANDEM_${tandem_name^^}_LISTEN
	tandem_set "TANDEM_${tandem_name^^}_ADMIN_LISTEN" "$(tandem_admin "${!tandem_at}" \
		"${tandem_listen[$tandem_name]}" "${tandem_admin_listen[$tandem_name]}")"
done

# tandem_tls_read: after scripts/up --tls, which makes the file tls/on, every process has a certificate of the private
# CA there, shows it to the others, and asks them for theirs; tls/callers says who may do what.
tandem_tls_read() {
	local tls=$TANDEM_VAR/tls name upper
	[ -e "$tls/on" ] || return 0
	for name in "${tandem_contexts[@]}" gateway; do
		upper=TANDEM_${name^^}
		tandem_set "${upper}_TLS_CERT" "$tls/$name.crt"
		tandem_set "${upper}_TLS_KEY" "$tls/$name.key"
		tandem_set "${upper}_TLS_CLIENT_CA" "$tls/ca.crt"
		tandem_set "${upper}_CALLERS" "$tls/callers"
	done
	tandem_set TANDEM_REDIS_TLS 1
	tandem_set TANDEM_GATEWAY_UPSTREAM_TLS_CA "$tls/ca.crt"
	tandem_set TANDEM_GATEWAY_UPSTREAM_TLS_CERT "$tls/gateway.crt"
	tandem_set TANDEM_GATEWAY_UPSTREAM_TLS_KEY "$tls/gateway.key"
}
tandem_tls_read

# The address another process reaches a listener at: 0.0.0.0 and [::] are no destinations.
tandem_target() {
	case $1 in
	0.0.0.0:*) echo "127.0.0.1:${1##*:}" ;;
	'[::]:'*) echo "[::1]:${1##*:}" ;;
	*) echo "$1" ;;
	esac
}

# tandem_admin_url NAME: where a service's admin port is. It has TLS if the service does and other machines can reach it.
tandem_admin_url() {
	local listen=TANDEM_${1^^}_ADMIN_LISTEN certificate=TANDEM_${1^^}_TLS_CERT scheme=http
	case ${!listen} in
	127.* | '[::1]':* | localhost:*) ;;
	*) [ -z "${!certificate-}" ] || scheme=https ;;
	esac
	echo "$scheme://$(tandem_target "${!listen}")"
}

# tandem_page_url: where browsers find the console.
tandem_page_url() {
	echo "http${TANDEM_CONSOLE_TLS_CERT:+s}://$(tandem_target "$TANDEM_CONSOLE_LISTEN")/"
}

# tandem_began PID: when this process began; also of one that keeps secrets, of which /proc says little.
tandem_began() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	# shellcheck disable=SC2086 # words
	set -- ${stat##*) } # the name may hold anything
	echo "${20}"
}

# tandem_note NAME: this shell is about to become our process NAME, which is then found by two files: its pid,
# and when it began with the program's inode.
tandem_note() {
	echo "$(tandem_began $$) $(stat -L -c %i -- "$TANDEM_BUILD/tandem-$1" 2>/dev/null)" \
		>"$TANDEM_VAR/run/$1.began"
	echo $$ >"$TANDEM_VAR/run/$1.pid"
}

# tandem_pid NAME: prints the pid of our running process NAME, fails when it does not run. A pid
# file alone proves nothing: the process must run that program in our var/ (as scripts/lib/run
# starts it). Of one that keeps secrets root alone may see that; then it must have begun when that one was started.
tandem_pid() {
	local pid began exe cwd
	{ read -r pid <"$TANDEM_VAR/run/$1.pid"; } 2>/dev/null || return 1
	[[ $pid =~ ^[0-9]+$ ]] || return 1
	if ! { exe=$(readlink "/proc/$pid/exe") && cwd=$(readlink "/proc/$pid/cwd"); }; then
		{ read -r began _ <"$TANDEM_VAR/run/$1.began"; } 2>/dev/null || return 1
		[ "$began" = "$(tandem_began "$pid")" ] || return 1
		{ read -r -d '' exe <"/proc/$pid/cmdline"; } 2>/dev/null || return 1
		cwd=$TANDEM_VAR/log
	fi
	case $1 in
	redis | redis-*) [[ ${exe##*/} = redis-* && $cwd = "$TANDEM_VAR/$1" ]] || return 1 ;;
	*) [[ ${exe##*/} = "tandem-$1"* && $cwd = "$TANDEM_VAR/log" ]] || return 1 ;;
	esac
	echo "$pid"
}

# tandem_is_old NAME PID: whether our running process NAME is of an older build than the one that is there.
tandem_is_old() {
	local exe inode
	if exe=$(readlink "/proc/$2/exe"); then
		[[ $exe = *' (deleted)' ]]
	else
		read -r _ inode <"$TANDEM_VAR/run/$1.began"
		[ "$inode" != "$(stat -L -c %i -- "$TANDEM_BUILD/tandem-$1")" ]
	fi
}

# tandem_stop NAME SECONDS: sends NAME SIGTERM, and SIGKILL after SECONDS. Succeeds also when it does
# not run.
tandem_stop() {
	local pid deadline=$((SECONDS + $2))
	if ! pid=$(tandem_pid "$1"); then
		rm -f -- "$TANDEM_VAR/run/$1.pid"
		return 0
	fi
	kill -TERM "$pid" 2>/dev/null || true
	while tandem_pid "$1" >/dev/null; do
		if [ $SECONDS -ge $deadline ]; then
			echo "$1 (pid $pid) did not end within $2 s: killed" >&2
			kill -KILL "$pid" 2>/dev/null || true
			deadline=$((SECONDS + 5))
		fi
		sleep 0.05
	done
	rm -f -- "$TANDEM_VAR/run/$1.pid"
}

# tandem_help "$@": prints the comment at the top of the script and ends with 0, when an argument
# asks for help. Call it before anything is done.
tandem_help() {
	local argument
	for argument; do
		case $argument in
		-h | --help)
			awk 'NR == 1 { next } !/^#/ { exit } { sub(/^# ?/, ""); print }' "$0"
			exit 0
			;;
		esac
	done
}

# tandem_new_password: prints a random one.
tandem_new_password() {
	od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

# With TANDEM_REDIS_TLS=1 Redis and all that connects to it use TLS, with the files of scripts/lib/ca; what is set by
# hand wins. The certificate here is that of the tools; each service has its own (scripts/lib/run).
tandem_redis_tls=
tandem_tls_options=()
if [[ ${TANDEM_REDIS_TLS-} =~ ^(1|true|yes)$ ]]; then
	tandem_redis_tls=1
	export TANDEM_REDIS_TLS
	tandem_set TANDEM_REDIS_TLS_CA "$TANDEM_VAR/tls/ca.crt"
	tandem_set TANDEM_REDIS_TLS_CERT "$TANDEM_VAR/tls/ops.crt"
	tandem_set TANDEM_REDIS_TLS_KEY "$TANDEM_VAR/tls/ops.key"
	tandem_tls_options=(--tls --cacert "$TANDEM_REDIS_TLS_CA" --cert "$TANDEM_REDIS_TLS_CERT"
		--key "$TANDEM_REDIS_TLS_KEY")
fi

# What those may do who only look: the user `default` of connections that do not log in, and `viewer`. Keys and streams
# can be read, one by one or with SCAN. Not: list all keys at once, see who is connected and what they send
# (CLIENT LIST, SLOWLOG), settings, and code.
tandem_reading='resetchannels -@all +@connection +@read -@admin -@dangerous +info +xinfo +dbsize +time'
tandem_reading+=' +cluster|slots +cluster|shards +cluster|nodes +cluster|info +cluster|keyslot -asking'

# tandem_redis NODE ARGUMENT…: redis-cli as the user ops of one of our own Redis processes.
tandem_redis() {
	local port
	port=$(tandem_node_port "$1")
	shift
	REDISCLI_AUTH=$(cat -- "$TANDEM_VAR/secrets/ops") redis-cli --no-auth-warning \
		"${tandem_tls_options[@]}" -p "$port" --user ops "$@"
}
