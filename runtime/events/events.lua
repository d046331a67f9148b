-- events.lua - the runtime's part of a context's function library, put in front of the context's
-- own functions.lua, with the context's name for @CONTEXT@ and the library's version for @VERSION@.
--
-- Libraries of several versions stand side by side in Redis while services are upgraded, and names of
-- functions are global there. So each name ends in the version (order_place_1a2b3c4d), and a service
-- calls the functions it was built with. Below they are named without it.
--
-- Time is an argument and keys are declared: KEYS[1] is always the context's own events stream
-- ('order:{0}:events'); other own keys are built from its prefix ('order:{0}:'), so they share its
-- slot. KEYS[2], where a function has it, is the foreign stream that is acknowledged.
--
-- Keys of every context, beside those that its functions.lua lists:
--
--   cursor   hash: a foreign stream → the id up to which the context's group has acknowledged all
--            of it; a group that was lost begins there again
--   dead   stream: entries of foreign streams that were given up, with the reason
--   excluded_groups   set: groups of the own stream that do not hold back its trimming while they
--            have no live consumer; an operator adds them
--
-- For functions.lua (local names, loaded into the same library):
--
--   prefix_of(KEYS[1])                   'order:{0}:'
--   local stream = open_stream(KEYS[1])  once a call, before anything is written
--   stream.length                        entries in it, kept up to date by publish
--   stream:publish(now_ms, time, type, subject, seq, data, attempt, traceparent)
--                                        appends an event with the envelope's fields in their one
--                                        order; attempt (nil or 1: left out), traceparent (nil or
--                                        '': left out). Numbers may be given as text. Returns the
--                                        entry's id, and the halves of it as texts. stream.ms is
--                                        the first as a number; stream.told is '', or
--                                        '~<now_ms>' when that lies well ahead of now_ms
--   stream.last                          id of the entry that was added last
--   find_group(key, name)                what XINFO GROUPS says of a group, by name; or nil
--   register(name, callback, flag, …)    makes it FCALL @CONTEXT@_<name>_@VERSION@
--
-- An entry's id is <ms>-<n>: ms is now_ms, or the last id's when the clock stepped back; n goes on
-- by one from entry to entry, whatever ms does. So the difference of two n is the number of
-- entries written in between, also when they were deleted since.
--
-- Registered for the runtime, all with allow-oom, since a full Redis must drain:
--
--   FCALL @CONTEXT@_version 0
--     Answers the version. It writes nothing, but counts as a function that may: so Redis refuses it
--     whenever it would refuse the others (a replica, a disk that is full).
--
--   FCALL @CONTEXT@_trim 1 <own stream> <now_ms> <retain_ms> <retain_count> <stale_ms>
--     Cuts off entries that every group has acknowledged and that are older than retain_ms or not
--     among the newest retain_count acknowledged. Without a group nothing is cut.
--     A stale group is one without a consumer seen within stale_ms; it holds trimming back as any
--     other, unless its name is in the set <prefix>excluded_groups.
--     Answers { trimmed, length, holder, held, full, stale group, … }: the group that keeps the most
--     entries from being cut off ('': none does), and how many; 1 when Redis is at its maxmemory.
--
--   FCALL @CONTEXT@_bury 2 <own stream> <foreign stream> <group> <dead_time> <reason> <id> …
--     Moves pending entries to <prefix>dead (their fields, then stream, stream_id, group, reason,
--     deliveries, dead_time) and acknowledges them. What is not pending is left alone, so a repeat does
--     no harm. Answers the number moved.
--
--   FCALL @CONTEXT@_pending 2 <own stream> <foreign stream> <group> <consumer> <after> <count>
--     The consumer's own pending entries with an id above <after>, and restarts their idle clocks.
--     XREADGROUP would count that as a delivery, though the consumer is the same and nobody failed.
--     Answers { { id, fields, deliveries }, … }, with fields nil when the entry is gone.
--
--   FCALL @CONTEXT@_cursor 2 <own stream> <foreign stream> <group> <consumer> <idle_ms>
--     Says that <consumer> is alive (Redis 7.0 does not count a read that found nothing). Stores the
--     group's low-water mark (all up to it is acknowledged) in the hash <prefix>cursor, field
--     <foreign stream>; removes consumers that are idle for idle_ms and hold nothing, other
--     than <consumer>. Answers { pending, first pending id or '', lag, removed, last delivered id,
--     last id }.

local MAX_EXACT = 9007199254740991
-- An id whose ms are ahead of the time by more than this does not tell the time: somebody added an
-- entry with an id of the future, or the clock was set back.
local AHEAD_MS = 1000

local function register(name, callback, ...)
	redis.register_function { function_name = '@CONTEXT@_' .. name .. '_@VERSION@',
		callback = callback, flags = { ... } }
end

local function prefix_of(own_stream)
	return string.sub(own_stream, 1, -7) -- less 'events'
end

-- A flat { name, value, … } reply as a table.
local function named(reply)
	local t = {}
	for i = 1, #reply, 2 do
		t[reply[i]] = reply[i + 1]
	end
	return t
end

-- The halves of an id as numbers, rounded past 2^53.
local function id_halves(id)
	local ms, n = string.match(id, '^(%d+)-(%d+)$')
	return tonumber(ms), tonumber(n)
end

local function id_less(a, b)
	local a_ms, a_n = id_halves(a)
	local b_ms, b_n = id_halves(b)
	if a_ms ~= b_ms then
		return a_ms < b_ms
	end
	return a_n < b_n
end

local function stream_info(key)
	local reply = redis.pcall('XINFO', 'STREAM', key)
	if reply.err then
		if redis.call('EXISTS', key) == 1 then
			error(reply) -- such as WRONGTYPE: before anything was written
		end
		return nil
	end
	return named(reply)
end

-- Where a stream ended is remembered from call to call: XINFO answers with whole entries, which
-- costs as much as the rest of a call for a single order. What is remembered is right as long as
-- nobody else wrote there; a library of another version does, and remembers for itself. So it is
-- asked whether the length is the same and nothing stands behind the last id: the length alone could
-- be the same again when entries were added and others trimmed.
local stream_methods = {}
stream_methods.__index = stream_methods
local streams = {}

local function look_at(stream)
	local info = stream_info(stream.key)
	stream.length, stream.ms, stream.ms_text, stream.n, stream.now = 0, -1, '0', 0, nil
	stream.last = '0-0'
	if info then
		local ms_text, n_text = string.match(info['last-generated-id'], '^(%d+)-(%d+)$')
		stream.length = info['length']
		stream.ms_text, stream.ms, stream.n = ms_text, tonumber(ms_text), tonumber(n_text)
		stream.last = info['last-generated-id']
		if stream.n >= MAX_EXACT then
			-- Only a hand-made id is so large: leave its millisecond.
			stream.ms, stream.n = stream.ms + 1, 0
			stream.ms_text = string.format('%.0f', stream.ms)
			stream.last = stream.ms_text .. '-0'
		end
	end
	return stream
end

local function open_stream(key)
	local stream = streams[key]
	if not stream then
		stream = setmetatable({ key = key }, stream_methods)
		streams[key] = stream
	elseif redis.call('XLEN', key) == stream.length and stream.length > 0 and
			#redis.call('XRANGE', key, '(' .. stream.last, '+', 'COUNT', 1) == 0 then
		return stream
	end
	return look_at(stream)
end

-- The id of the entry that follows, whole and in halves.
function stream_methods:next_id(now_ms)
	if now_ms ~= self.now then -- the entries of a batch share their time
		self.now = now_ms
		local now = tonumber(now_ms)
		if now > self.ms then
			self.ms, self.ms_text = now, string.format('%.0f', now)
		end
		self.told = self.ms - now > AHEAD_MS and '~' .. now_ms or ''
	end
	self.n = self.n + 1
	self.length = self.length + 1
	local ms_text, n_text = self.ms_text, string.format('%d', self.n)
	self.last = ms_text .. '-' .. n_text
	return self.last, ms_text, n_text
end

-- Appends an entry of these fields and values.
function stream_methods:append(now_ms, ...)
	local id, ms_text, n_text = self:next_id(now_ms)
	if redis.pcall('XADD', self.key, id, ...) ~= id then
		look_at(self)
		id, ms_text, n_text = self:next_id(now_ms)
		redis.call('XADD', self.key, id, ...)
	end
	return id, ms_text, n_text
end

function stream_methods:publish(now_ms, time, type, subject, seq, data, attempt, traceparent)
	local asked_again = attempt and tonumber(attempt) > 1
	local traced = traceparent and traceparent ~= ''
	local id = subject .. '/' .. seq
	if asked_again and traced then
		return self:append(now_ms, 'id', id, 'type', type, 'subject', subject, 'seq', seq,
			'time', time, 'data', data, 'attempt', attempt, 'traceparent', traceparent)
	elseif asked_again then
		return self:append(now_ms, 'id', id, 'type', type, 'subject', subject, 'seq', seq,
			'time', time, 'data', data, 'attempt', attempt)
	elseif traced then
		return self:append(now_ms, 'id', id, 'type', type, 'subject', subject, 'seq', seq,
			'time', time, 'data', data, 'traceparent', traceparent)
	end
	return self:append(now_ms, 'id', id, 'type', type, 'subject', subject, 'seq', seq, 'time',
		time, 'data', data)
end

local function find_group(key, name)
	for _, reply in ipairs(redis.call('XINFO', 'GROUPS', key)) do
		local group = named(reply)
		if group['name'] == name then
			return group
		end
	end
end

-- Trimming.

-- The lowest id that a group has not acknowledged: its first pending one, or the next after what
-- it was delivered.
local function group_needs(key, group)
	if group['pending'] > 0 then
		local first = redis.call('XPENDING', key, group['name'])[2]
		if first then
			return first
		end
	end
	local ms, n = string.match(group['last-delivered-id'], '^(%d+)-(%d+)$')
	if tonumber(n) >= MAX_EXACT then
		return group['last-delivered-id'] -- keeps one more than it must
	end
	return ms .. '-' .. string.format('%.0f', tonumber(n) + 1)
end

local function is_stale(key, group, stale_ms)
	for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', key, group['name'])) do
		if named(reply)['idle'] <= stale_ms then
			return false
		end
	end
	return true
end

-- The id of the entry with number `wanted`, between the first entry and `low`: ids grow with n, so
-- their milliseconds can be bisected. When hand-made entries broke the numbers this finds some id
-- in between, which is all that the caller relies on.
local function id_of_number(key, first_ms, low_ms, wanted)
	local from, to = first_ms, low_ms
	while from < to do
		local middle = math.ceil((from + to) / 2)
		local entry = redis.call('XRANGE', key, string.format('%.0f-0', middle), '+', 'COUNT',
			1)[1]
		local n = math.huge
		if entry then
			n = select(2, id_halves(entry[1]))
		end
		if n <= wanted then
			from = middle
		else
			to = middle - 1
		end
	end
	return string.format('%.0f-%.0f', from, wanted)
end

-- Where to cut, given that all below `low` is acknowledged.
local function trim_id(key, info, low, now_ms, retain_ms, retain_count)
	local low_ms, low_n = id_halves(low)
	local first = info['first-entry'][1]
	local first_ms, first_n = id_halves(first)
	local cut = string.format('%.0f-0', math.max(0, now_ms - retain_ms))
	if low_n - retain_count > first_n then
		local by_count = low
		if retain_count > 0 then
			by_count = id_of_number(key, first_ms, low_ms, low_n - retain_count)
		end
		if id_less(cut, by_count) then
			cut = by_count
		end
	end
	return id_less(cut, low) and cut or low
end

-- As Redis decides whether to refuse what needs memory.
local function memory_is_full()
	local info = redis.call('INFO', 'memory')
	local max = tonumber(string.match(info, '\nmaxmemory:(%d+)')) or 0
	local used = tonumber(string.match(info, '\nused_memory:(%d+)')) or 0
	return max > 0 and
		used - (tonumber(string.match(info, '\nmem_not_counted_for_evict:(%d+)')) or 0) > max
end

local function trim(keys, args)
	local key = keys[1]
	local stale_ms = tonumber(args[4])
	local info = stream_info(key)
	local answer = { 0, info and info['length'] or 0, '', 0, memory_is_full() and 1 or 0 }
	local low, holder
	if not info or not info['first-entry'] then
		return answer
	end
	for _, reply in ipairs(redis.call('XINFO', 'GROUPS', key)) do
		local group = named(reply)
		local counts = true
		if is_stale(key, group, stale_ms) then
			answer[#answer + 1] = group['name']
			counts = redis.call('SISMEMBER', prefix_of(key) .. 'excluded_groups',
				group['name']) == 0
		end
		if counts then
			local needs = group_needs(key, group)
			if not low or id_less(needs, low) then
				low, holder = needs, group['name']
			end
		end
	end
	if low then
		local cut = trim_id(key, info, low, tonumber(args[1]), tonumber(args[2]),
			tonumber(args[3]))
		answer[1] = redis.call('XTRIM', key, 'MINID', cut)
		answer[2] = answer[2] - answer[1]
		local held = select(2, id_halves(info['last-generated-id'])) -
			select(2, id_halves(low)) + 1
		if held > 0 then
			answer[3], answer[4] = holder, math.min(held, answer[2])
		end
	end
	return answer
end

-- Dead letters.

-- More values than this do not fit Lua's stack; no entry of ours comes near it.
local FIELDS_MAX = 4000

local function bury_one(key, dead, group, dead_time, reason, id)
	local pending = redis.call('XPENDING', key, group, id, id, 1)[1]
	if not pending then
		return 0
	end
	local entry = redis.call('XRANGE', key, id, id)[1]
	local fields = {}
	for i = 1, entry and math.min(#entry[2], FIELDS_MAX) or 0 do
		fields[i] = entry[2][i]
	end
	for _, value in ipairs({ 'stream', key, 'stream_id', id, 'group', group, 'reason', reason,
		'deliveries', tostring(pending[4]), 'dead_time', dead_time }) do
		fields[#fields + 1] = value
	end
	redis.call('XADD', dead, '*', unpack(fields))
	redis.call('XACK', key, group, id)
	return 1
end

local function bury(keys, args)
	local dead = prefix_of(keys[1]) .. 'dead'
	local moved = 0
	for i = 4, #args do
		moved = moved + bury_one(keys[2], dead, args[1], args[2], args[3], args[i])
	end
	return moved
end

-- Own pending entries.

local function pending(keys, args)
	local key, group, consumer = keys[2], args[1], args[2]
	local rows = redis.pcall('XPENDING', key, group, '(' .. args[3], '+', args[4], consumer)
	if rows.err then
		return rows -- such as NOGROUP
	end
	local entries, ids = {}, {}
	for i, row in ipairs(rows) do
		local entry = redis.call('XRANGE', key, row[1], row[1])[1]
		ids[i] = row[1]
		entries[i] = { row[1], entry and entry[2] or false, row[4] }
	end
	if #ids > 0 then
		ids[#ids + 1] = 'JUSTID'
		redis.call('XCLAIM', key, group, consumer, 0, unpack(ids))
	end
	return entries
end

-- The cursor.

local function id_before(id)
	local ms, n = string.match(id, '^(%d+)-(%d+)$')
	if tonumber(n) == 0 then
		-- The largest second half there is: only hand-made ids end in 0.
		return string.format('%.0f-18446744073709551615', math.max(0, tonumber(ms) - 1))
	end
	return ms .. '-' .. string.format('%.0f', tonumber(n) - 1)
end

local function remove_idle_consumers(key, group, own, idle_ms)
	local removed = 0
	for _, reply in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
		local consumer = named(reply)
		if consumer['name'] ~= own and consumer['pending'] == 0 and
				consumer['idle'] > idle_ms then
			redis.call('XGROUP', 'DELCONSUMER', key, group, consumer['name'])
			removed = removed + 1
		end
	end
	return removed
end

-- Entries behind `delivered`: by number where that is exact, else counted as far as 1000.
local function lag_of(key, info, delivered)
	local first = info['first-entry'] and info['first-entry'][1]
	if not first then
		return 0
	end
	if id_less(delivered, first) then
		return info['length']
	end
	local _, last_n = id_halves(info['last-generated-id'])
	local _, delivered_n = id_halves(delivered)
	local gap = id_less(delivered, info['max-deleted-entry-id'] or '0-0')
	if last_n < delivered_n or gap then
		return #redis.call('XRANGE', key, '(' .. delivered, '+', 'COUNT', 1000)
	end
	return last_n - delivered_n
end

local function cursor(keys, args)
	local key, name = keys[2], args[1]
	local info = stream_info(key)
	local group = info and find_group(key, name)
	if not group then
		return redis.error_reply('NOGROUP No such consumer group ' .. name .. ' of ' .. key)
	end
	local delivered = group['last-delivered-id']
	local first, mark = '', delivered
	if group['pending'] > 0 then
		first = redis.call('XPENDING', key, name)[2] or ''
		if first ~= '' then
			mark = id_before(first)
		end
	end
	-- Asking for own entries behind the last one gives none, and restarts the consumer's idle clock.
	redis.call('XREADGROUP', 'GROUP', name, args[2], 'COUNT', 1, 'STREAMS', key,
		info['last-generated-id'])
	local lag = lag_of(key, info, delivered)
	local own = prefix_of(keys[1]) .. 'cursor'
	if redis.call('HGET', own, key) ~= mark then
		redis.call('HSET', own, key, mark)
	end
	local removed = remove_idle_consumers(key, name, args[2], tonumber(args[3]))
	return { group['pending'], first, lag, removed, delivered, info['last-generated-id'] }
end

register('trim', trim, 'allow-oom')
register('bury', bury, 'allow-oom')
register('pending', pending, 'allow-oom')
register('cursor', cursor, 'allow-oom')
register('version', function() return '@VERSION@' end, 'allow-oom')
