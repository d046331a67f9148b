# The rights of Redis's users, as ACL rules. To be sourced, behind settings.sh.
# shellcheck shell=bash

# make_secret NAME: secrets/NAME, a password, unless it is there.
make_secret() {
	local secret=$TANDEM_VAR/secrets/$1
	if [ ! -s "$secret" ]; then
		# Nodes may start side by side: the first one's password counts.
		tandem_new_password >"$secret.$$"
		ln -- "$secret.$$" "$secret" 2>/dev/null || true
		rm -- "$secret.$$"
	fi
	chmod 600 -- "$secret"
}

# "#" and the SHA-256 of a user's password, as an ACL file wants it.
hash_of() {
	printf '#'
	head -n 1 -- "$TANDEM_VAR/secrets/$1" | tr -d '\n' | sha256sum | cut -d ' ' -f 1
}

# The keys named by these patterns, behind what all names of keys begin with: all but trail, to which users only
# add. (A customer's id may end in ':trail'.)
not_trail() { # BEGINNING
	printf '%s' "~$1[^t]* ~$1t[^r]*"
}
add_to_trail() { # BEGINNING
	printf '%s' "(-@all +xadd +xlen ~$1trail)"
}

# What a service may do with its own keys: use the types of values it keeps, through its functions or
# directly. Not: load code, list the names of other keys, or run commands meant for operators.
own='resetchannels -@all +@connection +@hash +@set +@sortedset +@stream +@string -@dangerous'
own+=' +bitfield +bitfield_ro +exists +type +del +unlink +pttl +pexpire +fcall +fcall_ro +info +time'
# Where the keys are, in a cluster. Never ASKING: in a slot that is being migrated, a function would find
# some keys here and make others anew over there.
own+=' +cluster|slots +cluster|shards +cluster|myid -asking'
# What a consumer may do with a foreign stream. One part alone must allow a command, so there is one
# for each of: reading the stream, keeping a place in it, and calling an own function that also gets
# the foreign stream as a key (it acknowledges there).
foreign_read='-@all +xreadgroup +xread +xpending +xrange +xlen +xinfo|stream +xinfo|groups'
foreign_read+=' +xinfo|consumers'
foreign_place='-@all +xack +xautoclaim +xclaim +xgroup|create +xgroup|createconsumer'
foreign_place+=' +xgroup|delconsumer'
service() { # NAME FOREIGN…
	local name=$1 foreign
	# Redis compares each key of each command with these in their order. A star costs it a call of a function for every byte
	# that it may stand for, and most keys are of a partition with one digit.
	printf '%s' "user $name on $(hash_of "$name") $(not_trail "$name:{?}:") $(not_trail "$name:{*}:") $own"
	printf ' %s' "$(add_to_trail "$name:{*}:")"
	shift
	# One for all of them: a command may read several streams.
	[ $# = 0 ] || printf ' %s' "($foreign_read$(printf ' %%R~%s:*:events' "$@"))"
	for foreign; do
		printf ' %s' "($foreign_place +xgroup|setid %RW~$foreign:*:events)" \
			"(-@all +fcall ~$name:* ~$foreign:*:events)"
	done
	echo
}
