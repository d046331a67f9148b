-- events.lua - the runtime's part of a context's function library. The context's own functions.lua
-- follows it; @CONTEXT@ is replaced by the context's name, @VERSION@ by the library's version.
--
-- While services are upgraded Redis holds libraries of several versions, and names of functions are
-- global. So each name ends in the version (order_place_1a2b3c4d), and a service calls the functions
-- it was built with. The names below leave it out.
--
-- Time is an argument and keys are declared: KEYS[1] is always the context's own events stream
-- ('order:{0}:events'); other own keys are built from its prefix ('order:{0}:'), so they share its
-- slot. KEYS[2], where a function takes it, is the stream to acknowledge: a foreign one, or the
-- context's own aside:… of it.
--
-- Keys of every context, beside those that its functions.lua lists:
--
--   cursor   hash: a foreign stream → the id up to which the context's group has acknowledged all
--            of it; a group that was lost starts there again
--   aside:<foreign context>   stream: events of the foreign stream that wait for a retry, one entry
--            each; its group has the same name as the foreign stream's
--   dead   stream: dead letters, events of foreign streams that could not be handled, one entry each,
--            with the reason
--   partitions   string: the number of partitions of the context, set at its first start and never changed;
--            'migrating' until a migration into it (tandemctl migrate) has ended
--   excluded_groups   set: groups of the own stream that do not hold back its trimming while they
--            have no live consumer; an operator adds them (tandemctl groups exclude)
--   trail    stream: what operators changed here, an entry for each change, in the step that makes it: who, from
--            (where), action, subject (an order, a SKU, a group …), why, result. The newest 100 000
--
-- An entry of a stream of events carries the events of one atomic step:
--
--   <type>   a field for each type of event, named after it: '<subject>/<seq> <subject>/<seq> …'; a type
--            has a second field only when a subject has several events, to keep their order
--   time     RFC 3339, the same for all events; that of the id, if the clock stepped back by less than a second, as it
--            does from one instance to another: so events and what is stored say the same
--   batch    tandem.events.v1.EventBatch, when an event has content, a trace context or an attempt:
--            an item for each event, in the order of the fields and of the names in them
--
-- Its id is <ms>-<n>: ms is now_ms, or the last id's when the clock stepped back; n counts events,
-- whatever ms does, and is the number of the entry's last event. So the difference of two n is the
-- number of events between them, even after entries were deleted.
--
-- In aside:… and dead each event has its own entry: id, type, subject, seq, time, data, attempt and
-- traceparent, tracestate and actor (if any), stream and stream_id (where it came from).
--
-- An argument <trace> is a W3C traceparent; behind it, after a blank, the tracestate, if there is one. ''
-- is none.
--
-- For functions.lua (local names, loaded into the same library):
--
--   call pcall sub find match format byte char gsub concat unpack tonumber    from redis, string, table and Lua
--   prefix_of(KEYS[1])                   'order:{0}:'
--   own_keys(KEYS[1]).<name>             'order:{0}:<name>'
--   local stream = open_stream(KEYS[1])  once per call, before anything is written
--   stream:is_full(events)               true if it holds at least so many events
--   local batch = begin_batch()          the events of a step: the caller fills its lists types and names
--                                        ('<subject>/<seq>'). There is one such table, which the next call
--                                        uses again
--   stream:publish(now_ms, time, batch, n, write, args)   appends an entry with the first n events of a batch
--                                        and their details. Before that it calls write(stream, n, args), if
--                                        given, for writes that can fail (a key of another type), and again if
--                                        the entry needs another id. By then stream.last is the entry's id, and
--                                        stream.time_mark is '', or '~<now_ms>' when the id's ms are well ahead
--                                        of it. Returns the entry's id
--   stream.last, ms_text, n_text         the id of the newest entry, and both its halves
--   stream.own                           own_keys
--   begin_details(batch, data)           takes a list of each event's data
--   add_details(batch, i, data, attempt, trace, actor)   sets those that event i of the batch has
--   varint(n)                            as protobuf packs it
--   has_partitions(own)                  whether the context has more than one partition
--   number_text(n)                       an integer as text; small ones are cached
--   acknowledge(KEYS, group, ids, from)  ids from the index `from` on; a leading '+' marks an id of
--                                        aside:…
--   open_trail(own), add_trail(own, who, from, action, subject, why, result)   the first before anything is written
--   register(name, callback, flag, …)    makes it FCALL @CONTEXT@_<name>_@VERSION@
--   outcomes.<name> = function(answer, args, KEYS)   for a function that operators call, too: what it did, as a text;
--                                        nil: nothing
--   former                               set it to a table if earlier versions stored data in another form:
--                                        is_there(prefix) returns whether such data exists; page(prefix, cursor)
--                                        rewrites some of it and returns the next cursor ('0': done) and how
--                                        much. '<prefix>format' holds the form of the data
--
-- Registered for the runtime, all with allow-oom, since a full Redis must drain:
--
--   FCALL @CONTEXT@_version 1 <own stream> <partitions>
--     Answers the version, or an error: while the data has the form of an earlier version, or PARTITIONS when it was
--     begun with another number of partitions (data of earlier versions: 1). It is registered as a
--     function that may write, so Redis refuses it whenever it would refuse the others (a replica, a full disk).
--
--   FCALL @CONTEXT@_upgrade 1 <own stream> <cursor>
--     Rewrites a page of data of earlier versions; the first cursor is 0. For ops, while no service runs: it
--     uses SCAN, which services may not use. Safe to repeat. Answers { next cursor, rewritten }; cursor 0: done.
--
--   FCALL @CONTEXT@_trim 1 <own stream> <now_ms> <retain_ms> <retain_count> <stale_ms> [<follower> <follower_max>]
--     Trims entries that every group has acknowledged and that are older than retain_ms or not
--     among the newest retain_count acknowledged events. Without a group it trims nothing.
--     A group is stale if none of its consumers was seen within stale_ms; it still holds trimming back,
--     unless its name is in the set <prefix>excluded_groups. The group <follower> holds back <follower_max> events at most.
--     Answers { trimmed entries, events left, holder, held, full, stale group, … }: the group that keeps the
--     most events from being trimmed ('': none), and how many; 1 when Redis is at its maxmemory.
--
--   FCALL @CONTEXT@_behind 1 <own stream> <now_ms> <group> <memory>
--     Answers how far a group is behind: events that were not delivered to it, and the age in ms of the oldest that it has not acknowledged;
--     how many events were ever written; and how much of Redis's maxmemory is used, in thousandths (0: it has no limit; −1: <memory> is 0, not asked for).
--
--   FCALL @CONTEXT@_set_aside 2 <own stream> <foreign stream> <group> <consumer> <stream id> <now> { <reason>
--         <deliveries> <type> <subject> <seq> <time> <attempt> <trace> <actor> <data> } …
--     Acknowledges an entry and moves some of its events in the same step: an event without a reason
--     to aside:…, pending for the consumer with the given number of deliveries; one with a reason to dead.
--     Does nothing if the entry is not pending for the consumer. Answers a list with each event's stream id
--     in aside:…, '' if it went to dead; or nil.
--
--   FCALL @CONTEXT@_acknowledge 2 <own stream> <foreign stream> <group> <id> …
--     Acknowledges entries that had no effect, as acknowledge above.
--
--   FCALL @CONTEXT@_dead_letter 2 <own stream> <stream> <group> <now> <reason> <id> …
--     Moves whole pending entries to <prefix>dead (their fields, then stream, stream_id, group, reason,
--     deliveries, dead_time) and acknowledges them. Skips entries that are not pending, so it is safe to
--     repeat. Answers the number moved.
--
--   FCALL @CONTEXT@_pending 2 <own stream> <stream> <group> <consumer> <after> <count>
--     Answers the consumer's own pending entries with an id above <after>, and restarts their idle clocks:
--     { { id, fields, deliveries }, … }, fields nil when the entry is gone. XREADGROUP would count a
--     delivery, although the consumer is the same and did not fail.
--
--   FCALL @CONTEXT@_cursor 2 <own stream> <foreign stream> <group> <consumer> <idle_ms>
--     Marks <consumer> as alive (Redis 7.0 does not count a read that found nothing). Stores the group's
--     low-water mark (everything up to it is acknowledged) in the hash <prefix>cursor, field <foreign
--     stream>. Removes other consumers that are idle for idle_ms and have nothing pending. Creates the
--     group of aside:… again if it is gone. Answers { pending, first pending id or '', lag in events,
--     removed, last delivered id, last id, events set aside }.

-- Called by operators, by way of:
--
--   FCALL @CONTEXT@_operate 1|2 <own stream> [<stream>] <who> <from> <action> <subject> <why> <about> <name> <argument> …
--     Calls the function <name> with the rest, and answers what that answers. If it did something, an entry in the
--     trail says so, in the same step. Its result begins with <about>, if that is not ''.
--
--   replay 2 <own stream> <stream> <id> <now_ms>    Moves a dead letter to the end of the stream it came from. Answers its new
--     id; nil: there is no such dead letter. The field `replayed` counts, and stays when it becomes a dead letter again.
--   discard 1 <own stream> <id>       Deletes a dead letter. Answers what it was; nil: there is none.
--   exclude, include, remove_group 1 <own stream> <group>    Puts a group of the own stream into excluded_groups, takes
--     it out, or removes the group itself. Answers 1; 0: it was so already.

local MAX_EXACT = 9007199254740991
local TRAIL_MAX = 100000 -- entries; as ctl/trail.c has it
local FORMAT = '2' -- 1: each event was an entry, each order a hash
local UPGRADING = 'upgrading'
local MIGRATING = 'migrating' -- in place of the number of partitions
-- An id whose ms are ahead of the clock by more than this does not show the time: an entry with a future
-- id was added by hand, or the clock was set back.
local AHEAD_MS = 1000

-- While a library is being loaded it has no 'string' and no 'table'; and a local is faster than a global.
local function globals()
	return unpack, tonumber
end
local call, pcall, sub, find, match, format, byte, char, gsub, concat, unpack, tonumber
local clustered, prepared -- this is a node of a Redis Cluster; nothing is to be done before a call

local function make_locals()
	call, pcall = redis.call, redis.pcall
	unpack, tonumber = globals()
	sub, find, match, format, byte = string.sub, string.find, string.match, string.format, string.byte
	char, gsub, concat = string.char, string.gsub, table.concat
	-- As much work for the collector as memory is used up, not twice as much: Redis runs it every 50 calls
	-- besides, and Lua's memory stays as small (docs/performance.md).
	collectgarbage('setstepmul', 100)
	clustered = find(call('INFO', 'cluster'), 'cluster_enabled:1', 1, true) ~= nil
	prepared = not clustered
end

local function prefix_of(own_stream)
	return sub(own_stream, 1, -7) -- without 'events'
end

-- Before the first call; in a Redis Cluster before each. While a slot migrates to another node, a command whose key
-- is not here (any more) is an error, which ends the function: behind its first writes, if that is a later one's
-- key. So a key that never exists is asked for first: no function runs in such a slot.
local function prepare(keys)
	if not call then
		make_locals()
	end
	if clustered then
		call('EXISTS', prefix_of(keys[1]) .. 'never')
	end
end

local callbacks, outcomes = {}, {} -- by name

local function register(name, callback, ...)
	callbacks[name] = callback
	redis.register_function { function_name = '@CONTEXT@_' .. name .. '_@VERSION@', flags = { ... },
		callback = function(keys, args)
			if not prepared then
				prepare(keys)
			end
			return callback(keys, args)
		end }
end

-- The names of own keys, built once: own_keys(own_stream).timers is '<prefix>timers'.
local key_tables = {}

local function own_keys(own_stream)
	local own = key_tables[own_stream]
	if not own then
		local prefix = prefix_of(own_stream)
		own = setmetatable({}, { __index = function(t, name)
			t[name] = prefix .. name
			return t[name]
		end })
		key_tables[own_stream] = own
	end
	return own
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
	local dash = find(id, '-', 1, true)
	return tonumber(sub(id, 1, dash - 1)), tonumber(sub(id, dash + 1))
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
	local reply = pcall('XINFO', 'STREAM', key)
	if reply.err then
		if call('EXISTS', key) == 1 then
			error(reply) -- such as WRONGTYPE; nothing is written yet
		end
		return nil
	end
	return named(reply)
end

-- How many events an entry carries.
local function events_in(entry)
	local fields, n = entry[2], 0
	for i = 1, #fields, 2 do
		if fields[i] == 'subject' then
			return 1 -- as earlier versions wrote them
		elseif fields[i] ~= 'time' and fields[i] ~= 'batch' and fields[i] ~= 'replayed' then
			n = n + 1 + select(2, gsub(fields[i + 1], ' ', ''))
		end
	end
	return n
end

-- ---- the trail ----

-- If it is a key of another type this is the error.
local function open_trail(own)
	call('XLEN', own.trail)
end

local function add_trail(own, who, from, action, subject, why, result)
	call('XADD', own.trail, 'MAXLEN', TRAIL_MAX, '*', 'who', who, 'from', from, 'action', action,
		'subject', subject, 'why', why, 'result', result)
end

local function operate(keys, args)
	local own, name, rest = own_keys(keys[1]), args[7], {}
	local outcome = outcomes[name]
	if not outcome then
		return redis.error_reply('ERR ' .. name .. ' is not called for operators')
	end
	open_trail(own)
	for i = 8, #args do
		rest[i - 7] = args[i]
	end
	local answer = callbacks[name](keys, rest)
	local result = answer and not (type(answer) == 'table' and answer.err) and outcome(answer, rest, keys)
	if result then
		add_trail(own, args[1], args[2], args[3], args[4], args[5],
			args[6] == '' and result or args[6] .. ': ' .. result)
	end
	return answer
end

-- ---- publishing ----

-- The end of a stream is cached between calls: XINFO answers with whole entries, which costs as much as
-- the rest of a call for a single order. The cache is valid while nothing else writes to the stream; a
-- library of another version does, and has its own cache. So each call compares the length, which is
-- cheap. If it is equal because as many entries were trimmed as were added, Redis still refuses an id that
-- is not above the last one; a lower n can follow theirs.
local stream_methods = {}
stream_methods.__index = stream_methods
local streams = {}

local function load_end(stream)
	local info = stream_info(stream.key)
	stream.ms_text, stream.n, stream.n_text, stream.length = '0', 0, '0', 0
	stream.last, stream.now_ms, stream.first_n = '0-0', nil, nil
	if info then
		local id, ms = info['last-generated-id'], nil
		ms, stream.n = id_halves(id)
		stream.ms_text = sub(id, 1, find(id, '-', 1, true) - 1)
		stream.last, stream.length = id, info['length']
		if info['first-entry'] then
			stream.first_n = select(2, id_halves(info['first-entry'][1])) - events_in(info['first-entry']) + 1
		end
		if stream.n >= MAX_EXACT then
			-- Only a hand-made id is so large: continue in the next millisecond.
			stream.ms_text, stream.n = format('%.0f', ms + 1), 0
			stream.last = stream.ms_text .. '-0'
		end
	end
	return stream
end

local function open_stream(key)
	local stream = streams[key]
	if not stream then
		stream = setmetatable({ key = key, own = own_keys(key) }, stream_methods)
		streams[key] = stream
	elseif call('XLEN', key) == stream.length then
		return stream
	end
	return load_end(stream)
end

-- At least the number of events in the stream: an entry that was added by hand may begin their numbers anew.
local function events_held(stream)
	local events = stream.first_n and stream.n - stream.first_n + 1 or 0
	return events > stream.length and events or stream.length
end

-- The cached start may be from before the last trimming: it is read again before the answer is true.
function stream_methods:is_full(events)
	return events_held(self) >= events and events_held(load_end(self)) >= events
end

-- RFC 3339 of a unix time in ms. Days are counted from the 1st of March of the year 0, so that a leap year's day is its last.
local function rfc3339(ms)
	local day = math.floor(ms / 86400000) + 719468
	local era = math.floor(day / 146097) -- of 400 years
	day = day % 146097
	local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
	day = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
	local month = math.floor((5 * day + 2) / 153) -- 0: March
	day = day - math.floor((153 * month + 2) / 5) + 1
	return format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year + 400 * era + (month < 10 and 0 or 1), (month + 2) % 12 + 1, day,
		math.floor(ms / 3600000) % 24, math.floor(ms / 60000) % 60, math.floor(ms / 1000) % 60, ms % 1000)
end

-- Moves the end of the stream to the id of the next entry, with `count` events. Times are compared as texts: making
-- numbers of them costs more.
local function advance(stream, now_ms, count)
	local ms = stream.ms_text
	if now_ms ~= stream.now_ms then
		stream.now_ms, stream.time_mark, stream.time = now_ms, '', nil
		if #now_ms == #ms and now_ms > ms or #now_ms > #ms then
			ms = now_ms
			stream.ms_text = ms
		elseif now_ms ~= ms then
			local number = tonumber(ms)
			if number - tonumber(now_ms) > AHEAD_MS then
				stream.time_mark = '~' .. now_ms
			else
				stream.time = rfc3339(number)
			end
		end
	end
	local n = stream.n + count
	local text = format('%d', n)
	local id = ms .. '-' .. text
	stream.n, stream.n_text, stream.last = n, text, id
	return id
end

local varints = {} -- of small numbers

local function varint(n)
	local bytes = varints[n]
	if bytes then
		return bytes
	end
	local rest = n
	bytes = ''
	while rest >= 128 do
		bytes = bytes .. char(rest % 128 + 128)
		rest = (rest - rest % 128) / 128
	end
	bytes = bytes .. char(rest)
	if n < 4096 then
		varints[n] = bytes
	end
	return bytes
end

local number_texts = {} -- of small numbers: formatting one costs as much as making four other strings

local function number_text(n)
	local text = number_texts[n]
	if not text then
		text = format('%d', n)
		if n >= 0 and n < 4096 then
			number_texts[n] = text
		end
	end
	return text
end

-- A repeated field of texts or bytes: an item for each event, '' if `values` has none.
local function packed_texts(key, values, order, n)
	if n == 1 then
		return key .. varint(#values[1]) .. values[1]
	end
	local pieces = {}
	for i = 1, n do
		local value = values[order and order[i] or i] or ''
		pieces[i] = key .. varint(#value) .. value
	end
	return concat(pieces)
end

local function packed_attempts(attempts, order, n)
	local pieces = {}
	for i = 1, n do
		pieces[i] = varint(tonumber(attempts[order and order[i] or i] or 1))
	end
	local bytes = concat(pieces)
	return '\18' .. varint(#bytes) .. bytes
end

-- The fields for n events of a batch, grouped by type, and the order of the events in them. When a subject
-- occurs again new fields begin, so that the events of a subject keep their order.
local function by_type(batch, n)
	local types, names, groups, seen, fields, order = batch.types, batch.names, {}, {}, {}, {}
	for i = 1, n do
		local subject = match(names[i], '^(.*)/')
		if seen[subject] then
			groups, seen = {}, {}
		end
		seen[subject] = true
		local group = groups[types[i]]
		if not group then
			group = { at = {}, names = {} }
			groups[types[i]] = group
			fields[#fields + 1] = types[i]
			fields[#fields + 1] = group
		end
		group.at[#group.at + 1] = i
		group.names[#group.names + 1] = names[i]
	end
	for i = 2, #fields, 2 do
		for _, at in ipairs(fields[i].at) do
			order[#order + 1] = at
		end
		fields[i] = concat(fields[i].names, ' ')
	end
	return fields, order
end

-- For a step of a single order, creating tables would cost as much as everything else: they are used again.
local the_batch = { types = {}, names = {} }

local function begin_batch()
	the_batch.detailed = false
	return the_batch
end

-- Before the first detail of a batch. `data`: a list of each event's data; nil: none yet.
local function begin_details(batch, data)
	batch.detailed, batch.data = true, data
	-- Not nil: their places in the table stay.
	batch.attempts, batch.traceparents, batch.tracestates, batch.actors = false, false, false, false
end

local function packed_batch(batch, order, n)
	return (batch.data and packed_texts('\10', batch.data, order, n) or '') ..
		(batch.attempts and packed_attempts(batch.attempts, order, n) or '') ..
		(batch.traceparents and packed_texts('\26', batch.traceparents, order, n) or '') ..
		(batch.actors and packed_texts('\34', batch.actors, order, n) or '') ..
		(batch.tracestates and packed_texts('\42', batch.tracestates, order, n) or '')
end

-- XADD with one field when all events have the same type (`fields` is nil), else with `fields`.
local function add_entry(add, key, id, batch, n, time, fields, order)
	local packed = batch.detailed and packed_batch(batch, order, n)
	if fields then
		fields[#fields + 1], fields[#fields + 2] = 'time', time
		if packed then
			fields[#fields + 1], fields[#fields + 2] = 'batch', packed
		end
		return add('XADD', key, id, unpack(fields))
	end
	local names = n == 1 and batch.names[1] or concat(batch.names, ' ', 1, n)
	if packed then
		return add('XADD', key, id, batch.types[1], names, 'time', time, 'batch', packed)
	end
	return add('XADD', key, id, batch.types[1], names, 'time', time)
end

function stream_methods:publish(now_ms, time, batch, n, write, args)
	local types = batch.types
	local first, fields, order = types[1]
	for i = 2, n do
		if types[i] ~= first then
			fields, order = by_type(batch, n)
			break
		end
	end
	-- Until the entry is there, no length is right: after an error the end is looked up again.
	local length = self.length
	self.length = -1
	local id = advance(self, now_ms, n)
	if write then
		write(self, n, args)
	end
	if add_entry(pcall, self.key, id, batch, n, self.time or time, fields, order) ~= id then
		load_end(self)
		length, self.length = self.length, -1
		id = advance(self, now_ms, n)
		if write then
			write(self, n, args)
		end
		add_entry(call, self.key, id, batch, n, self.time or time, fields and by_type(batch, n), order)
	end
	self.first_n, self.length = self.first_n or self.n - n + 1, length + 1
	return id
end

-- Appends an entry of one event as it is given, a flat list of fields and values. Returns its id.
function stream_methods:append(now_ms, fields)
	local length = self.length
	self.length = -1 -- until it is written: if it fails the end is read again
	local id = advance(self, now_ms, 1)
	call('XADD', self.key, id, unpack(fields))
	self.first_n, self.length = self.first_n or self.n, length + 1
	return id
end

local function add_detail(batch, name, i, value)
	if not batch.detailed then
		begin_details(batch)
	end
	batch[name] = batch[name] or {}
	batch[name][i] = value
end

-- The traceparent and the tracestate of an argument; each nil if there is none.
local function parts_of_trace(trace)
	local blank = find(trace, ' ', 1, true)
	if blank then
		return sub(trace, 1, blank - 1), sub(trace, blank + 1)
	end
	return trace ~= '' and trace or nil
end

local function add_details(batch, i, data, attempt, trace, actor)
	if data and data ~= '' then
		add_detail(batch, 'data', i, data)
	end
	if attempt and attempt ~= '' and attempt ~= '1' then
		add_detail(batch, 'attempts', i, attempt)
	end
	if trace and trace ~= '' then
		local traceparent, tracestate = parts_of_trace(trace)
		add_detail(batch, 'traceparents', i, traceparent)
		if tracestate then
			add_detail(batch, 'tracestates', i, tracestate)
		end
	end
	if actor and actor ~= '' then
		add_detail(batch, 'actors', i, actor)
	end
end

-- ---- partitions ----

local partition_count -- as text; nil: not known yet

local function has_partitions(own)
	partition_count = partition_count or call('GET', own.partitions)
	return partition_count and partition_count ~= '1'
end

-- ---- trimming ----

local function find_group(key, name)
	for _, reply in ipairs(call('XINFO', 'GROUPS', key)) do
		local group = named(reply)
		if group['name'] == name then
			return group
		end
	end
end

-- The lowest id that a group has not acknowledged: its first pending one, or the one after its last
-- delivered one.
local function group_needs(key, group)
	if group['pending'] > 0 then
		local first = call('XPENDING', key, group['name'])[2]
		if first then
			return first
		end
	end
	local ms, n = match(group['last-delivered-id'], '^(%d+)-(%d+)$')
	if tonumber(n) >= MAX_EXACT then
		return group['last-delivered-id'] -- keeps one entry more than needed
	end
	return ms .. '-' .. format('%.0f', tonumber(n) + 1)
end

local function is_stale(key, group, stale_ms)
	for _, reply in ipairs(call('XINFO', 'CONSUMERS', key, group['name'])) do
		if named(reply)['idle'] <= stale_ms then
			return false
		end
	end
	return true
end

-- The id of the entry with number `wanted`, between the first entry and `low`: ids grow with n, so
-- their milliseconds can be bisected. If hand-made entries broke the numbers it finds some id in that
-- range, which is enough for the caller.
local function id_of_number(key, first_ms, low_ms, wanted)
	local from, to = first_ms, low_ms
	while from < to do
		local middle = math.ceil((from + to) / 2)
		local entry = call('XRANGE', key, format('%.0f-0', middle), '+', 'COUNT',
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
	return format('%.0f-%.0f', from, wanted)
end

-- The id to trim to, given that everything below `low` is acknowledged.
local function trim_id(key, info, low, now_ms, retain_ms, retain_count)
	local low_ms, low_n = id_halves(low)
	local first = info['first-entry'][1]
	local first_ms, first_n = id_halves(first)
	local cut = format('%.0f-0', math.max(0, now_ms - retain_ms))
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

-- The number of events in the entries from an id on; and the unix ms of the first of them, if there is one.
local function events_from(key, info, id)
	local first = call('XRANGE', key, id, '+', 'COUNT', 1)[1]
	if not first then
		return 0
	end
	local first_ms, n = id_halves(first[1])
	local before = n - events_in(first)
	return math.max(select(2, id_halves(info['last-generated-id'])) - before, 1), first_ms
end

-- The part of maxmemory that is used, as Redis decides whether to refuse commands that need memory: above 1. 0: there is
-- no limit.
local function memory_use()
	local info = call('INFO', 'memory')
	local max = tonumber(match(info, '\nmaxmemory:(%d+)')) or 0
	local used = tonumber(match(info, '\nused_memory:(%d+)')) or 0
	local other = tonumber(match(info, '\nmem_not_counted_for_evict:(%d+)')) or 0
	return max > 0 and (used - other) / max or 0
end

-- What a group needs that may be left behind: of the newest `max` events.
local function follower_needs(key, info, needs, max)
	local last_ms, last_n = id_halves(info['last-generated-id'])
	local first_ms, first_n = id_halves(info['first-entry'][1])
	if last_n - max < first_n then
		return needs
	end
	local oldest = id_of_number(key, first_ms, last_ms, last_n - max + 1)
	return id_less(needs, oldest) and oldest or needs
end

local function trim(keys, args)
	local key = keys[1]
	local stale_ms = tonumber(args[4])
	local info = stream_info(key)
	local answer = { 0, 0, '', 0, memory_use() > 1 and 1 or 0 }
	local low, holder
	if not info or not info['first-entry'] then
		return answer
	end
	for _, reply in ipairs(call('XINFO', 'GROUPS', key)) do
		local group = named(reply)
		local counts = true
		if is_stale(key, group, stale_ms) then
			answer[#answer + 1] = group['name']
			counts = call('SISMEMBER', prefix_of(key) .. 'excluded_groups',
				group['name']) == 0
		end
		if counts then
			local needs = group_needs(key, group)
			if group['name'] == args[5] then
				needs = follower_needs(key, info, needs, tonumber(args[6]))
			end
			if not low or id_less(needs, low) then
				low, holder = needs, group['name']
			end
		end
	end
	if low then
		local cut = trim_id(key, info, low, tonumber(args[1]), tonumber(args[2]),
			tonumber(args[3]))
		answer[1] = call('XTRIM', key, 'MINID', cut)
		if streams[key] then
			streams[key].length = streams[key].length - answer[1]
		end
		answer[4] = events_from(key, info, low)
		answer[3] = answer[4] > 0 and holder or ''
	end
	answer[2] = math.max(events_from(key, info, '-'), info['length'] - answer[1]) -- as events_held
	return answer
end

-- ---- events set aside, and dead letters ----

-- The stream of a foreign stream's events that wait for a retry.
local function aside_of(own_stream, foreign)
	return prefix_of(own_stream) .. 'aside:' .. sub(foreign, 1, find(foreign, ':', 1, true) - 1)
end

local function acknowledge_mixed(keys, group, ids, from)
	local aside, mine = {}, {}
	for i = from, #ids do
		if byte(ids[i]) == 43 then -- '+'
			aside[#aside + 1] = sub(ids[i], 2)
		else
			mine[#mine + 1] = ids[i]
		end
	end
	if #mine > 0 then
		call('XACK', keys[2], group, unpack(mine))
	end
	local key = aside_of(keys[1], keys[2])
	call('XACK', key, group, unpack(aside))
	call('XDEL', key, unpack(aside))
end

local function acknowledge(keys, group, ids, from)
	for i = from, #ids do
		if byte(ids[i]) == 43 then
			return acknowledge_mixed(keys, group, ids, from)
		end
	end
	call('XACK', keys[2], group, unpack(ids, from))
end

-- Adds an entry for the event at args[at] of set_aside; '...' are further fields.
local function add_single(key, args, at, from, id, ...)
	local fields = { 'id', args[at + 3] .. '/' .. args[at + 4], 'type', args[at + 2], 'subject', args[at + 3],
		'seq', args[at + 4], 'time', args[at + 5], 'data', args[at + 9] }
	local function add(name, value)
		fields[#fields + 1], fields[#fields + 2] = name, value
	end
	local traceparent, tracestate = parts_of_trace(args[at + 7])
	if args[at + 6] ~= '1' then
		add('attempt', args[at + 6])
	end
	if traceparent then
		add('traceparent', traceparent)
	end
	if args[at + 8] ~= '' then
		add('actor', args[at + 8])
	end
	if tracestate then
		add('tracestate', tracestate)
	end
	for _, value in ipairs({ 'stream', from, 'stream_id', id, ... }) do
		fields[#fields + 1] = value
	end
	return call('XADD', key, '*', unpack(fields))
end

-- Creates the group of aside:… if it is missing. Entries that were there become pending, and will be claimed.
local function make_group(key, group, consumer)
	local made = pcall('XGROUP', 'CREATE', key, group, '0', 'MKSTREAM')
	if not made.err then
		call('XREADGROUP', 'GROUP', group, consumer, 'STREAMS', key, '>')
	elseif not find(made.err, 'BUSYGROUP', 1, true) then
		error(made)
	end
end

local function set_aside(keys, args)
	local from, group, consumer, id = keys[2], args[1], args[2], args[3]
	local aside, dead = aside_of(keys[1], from), prefix_of(keys[1]) .. 'dead'
	local row = call('XPENDING', from, group, id, id, 1)[1]
	if not row or row[2] ~= consumer then
		return false
	end
	call('XLEN', aside) -- a key of another type is an error here, before anything is written
	call('XLEN', dead)
	local answer, group_made = {}, false
	for at = 5, #args, 10 do
		if args[at] == '' then
			if not group_made then
				make_group(aside, group, consumer)
				group_made = true
			end
			local entry = add_single(aside, args, at, from, id)
			call('XREADGROUP', 'GROUP', group, consumer, 'STREAMS', aside, '>') -- also what was added by hand
			call('XCLAIM', aside, group, consumer, 0, entry, 'RETRYCOUNT', args[at + 1], 'JUSTID')
			answer[#answer + 1] = entry
		else
			add_single(dead, args, at, from, id, 'group', group, 'reason', args[at],
				'deliveries', args[at + 1], 'dead_time', args[4])
			answer[#answer + 1] = ''
		end
	end
	call('XACK', from, group, id)
	return answer
end

-- More values than this do not fit Lua's stack; our entries have far fewer.
local FIELDS_MAX = 4000

local function dead_letter_one(keys, dead, group, dead_time, reason, id)
	local key = keys[2]
	local row = call('XPENDING', key, group, id, id, 1)[1]
	if not row then
		return 0
	end
	local entry = call('XRANGE', key, id, id)[1]
	local fields = {}
	for i = 1, entry and math.min(#entry[2], FIELDS_MAX) or 0 do
		fields[i] = entry[2][i]
	end
	local mine = sub(key, 1, #prefix_of(keys[1])) == prefix_of(keys[1]) -- aside:…
	local has_origin = false -- unless it was added by hand an entry of aside:… has stream and stream_id already
	for i = 1, mine and #fields or 0, 2 do
		has_origin = has_origin or fields[i] == 'stream'
	end
	for i, value in ipairs({ 'stream', key, 'stream_id', id, 'group', group, 'reason', reason,
		'deliveries', tostring(row[4]), 'dead_time', dead_time }) do
		if i > 4 or not has_origin then
			fields[#fields + 1] = value
		end
	end
	call('XADD', dead, '*', unpack(fields))
	call('XACK', key, group, id)
	if mine then
		call('XDEL', key, id)
	end
	return 1
end

local function dead_letter(keys, args)
	local dead = prefix_of(keys[1]) .. 'dead'
	local moved = 0
	for i = 4, #args do
		moved = moved + dead_letter_one(keys, dead, args[1], args[2], args[3], args[i])
	end
	return moved
end

-- The fields of a dead letter by name, and as the flat list; nil: there is none.
local function find_dead(own, id)
	local entry = call('XRANGE', own.dead, id, id)[1]
	return entry and named(entry[2]), entry and entry[2]
end

-- Its own fields come first; those of the dead letter follow, from the last 'stream' on.
local function replay(keys, args)
	local own, id = own_keys(keys[1]), args[1]
	local dead, fields = find_dead(own, id)
	if not dead then
		return false
	end
	local stop, event = #fields, {}
	for i = #fields - 1, 1, -2 do
		if fields[i] == 'stream' then
			stop = i - 1
			break
		end
	end
	for i = 1, stop, 2 do
		if fields[i] ~= 'replayed' then
			event[#event + 1], event[#event + 2] = fields[i], fields[i + 1]
		end
	end
	event[#event + 1], event[#event + 2] = 'replayed', format('%d', (tonumber(dead.replayed) or 0) + 1)
	local made = open_stream(keys[2]):append(args[2], event)
	call('XDEL', own.dead, id)
	return made
end

outcomes.replay = function(answer, args, keys)
	return 'dead letter ' .. args[1] .. ' is ' .. answer .. ' of ' .. keys[2] .. ' now'
end

local function discard(keys, args)
	local own = own_keys(keys[1])
	local dead = find_dead(own, args[1])
	if not dead then
		return false
	end
	call('XDEL', own.dead, args[1])
	return (dead.type or 'no event') .. ' ' .. (dead.id or '') .. ' of ' .. (dead.stream or '?') .. ', failed: ' ..
		(dead.reason or '?')
end

outcomes.discard = function(answer, args)
	return 'dead letter ' .. args[1] .. ': ' .. answer
end

-- ---- groups of the own stream, for operators ----

local function exclude(keys, args)
	return call('SADD', own_keys(keys[1]).excluded_groups, args[1])
end

local function include(keys, args)
	return call('SREM', own_keys(keys[1]).excluded_groups, args[1])
end

local removed_at -- up to where the group had read

local function remove_group(keys, args)
	local group = stream_info(keys[1]) and find_group(keys[1], args[1])
	if not group then
		return 0
	end
	removed_at = group['last-delivered-id']
	return call('XGROUP', 'DESTROY', keys[1], args[1])
end

outcomes.exclude = function(answer)
	return answer == 1 and 'it may miss events' or nil
end
outcomes.include = function(answer)
	return answer == 1 and 'it holds back trimming again' or nil
end
outcomes.remove_group = function(answer)
	return answer == 1 and 'it had read up to ' .. removed_at or nil
end

-- ---- own pending entries ----

local function pending(keys, args)
	local key, group, consumer = keys[2], args[1], args[2]
	local rows = pcall('XPENDING', key, group, '(' .. args[3], '+', args[4], consumer)
	if rows.err then
		return rows -- such as NOGROUP
	end
	local entries, ids = {}, {}
	for i, row in ipairs(rows) do
		local entry = call('XRANGE', key, row[1], row[1])[1]
		ids[i] = row[1]
		entries[i] = { row[1], entry and entry[2] or false, row[4] }
	end
	if #ids > 0 then
		ids[#ids + 1] = 'JUSTID'
		call('XCLAIM', key, group, consumer, 0, unpack(ids))
	end
	return entries
end

-- ---- the cursor ----

local function id_before(id)
	local ms, n = match(id, '^(%d+)-(%d+)$')
	if tonumber(n) == 0 then
		-- The largest possible second half: only hand-made ids end in 0.
		return format('%.0f-18446744073709551615', math.max(0, tonumber(ms) - 1))
	end
	return ms .. '-' .. format('%.0f', tonumber(n) - 1)
end

local function remove_idle_consumers(key, group, own, idle_ms)
	local removed = 0
	for _, reply in ipairs(call('XINFO', 'CONSUMERS', key, group)) do
		local consumer = named(reply)
		if consumer['name'] ~= own and consumer['pending'] == 0 and
				consumer['idle'] > idle_ms then
			call('XGROUP', 'DELCONSUMER', key, group, consumer['name'])
			removed = removed + 1
		end
	end
	return removed
end

-- The number of events after `delivered`: by their numbers if those are exact, else counted in up to 1000 entries.
local function lag_of(key, info, delivered)
	local first = info['first-entry']
	if not first then
		return 0
	elseif id_less(delivered, first[1]) then
		return events_from(key, info, '-')
	end
	local _, last_n = id_halves(info['last-generated-id'])
	local _, delivered_n = id_halves(delivered)
	if last_n >= delivered_n and not id_less(delivered, info['max-deleted-entry-id'] or '0-0') then
		return last_n - delivered_n
	end
	local lag = 0
	for _, entry in ipairs(call('XRANGE', key, '(' .. delivered, '+', 'COUNT', 1000)) do
		lag = lag + events_in(entry)
	end
	return lag
end

-- The number of events after `delivered` in the own stream, by their numbers: those that were deleted one by one count. A group
-- whose numbers are not of the stream's is looked at more closely.
local function waiting_for(stream, delivered)
	local _, n = id_halves(delivered)
	if stream.first_n and n >= stream.first_n and n <= stream.n then
		return stream.n - n
	end
	return lag_of(stream.key, stream_info(stream.key), delivered)
end

-- The unix ms of the oldest entry that a group has not acknowledged; nil: there is none.
local function oldest_of(key, group, events)
	local id = group_needs(key, group)
	if group['pending'] == 0 then -- so it is the one after the last delivered, if there is one
		local entry = events > 0 and call('XRANGE', key, id, '+', 'COUNT', 1)[1]
		id = entry and entry[1]
	end
	return id and (id_halves(id))
end

-- It is asked again and again, so it reads no more entries than it must: they may be large.
--
-- What one of several consumers holds and does not acknowledge, because it was killed, does not count with the events: the
-- others go on beside it, and take it over.
local function behind(keys, args)
	local key = keys[1]
	local stream = open_stream(key)
	local group = stream.length > 0 and find_group(key, args[2])
	local events, first_ms = 0, nil
	if group then
		events = waiting_for(stream, group['last-delivered-id'])
		first_ms = oldest_of(key, group, events)
	end
	return { events, first_ms and math.max(args[1] - first_ms, 0) or 0, stream.n,
		args[3] == '1' and math.floor(1000 * memory_use()) or -1 }
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
		first = call('XPENDING', key, name)[2] or ''
		if first ~= '' then
			mark = id_before(first)
		end
	end
	-- Reading own entries after the last one finds none, but restarts the consumer's idle clock.
	call('XREADGROUP', 'GROUP', name, args[2], 'COUNT', 1, 'STREAMS', key,
		info['last-generated-id'])
	local lag = lag_of(key, info, delivered)
	local own = prefix_of(keys[1]) .. 'cursor'
	if call('HGET', own, key) ~= mark then
		call('HSET', own, key, mark)
	end
	local removed = remove_idle_consumers(key, name, args[2], tonumber(args[3]))
	local aside = aside_of(keys[1], key)
	local waiting = call('XLEN', aside)
	if waiting > 0 then
		if not find_group(aside, name) then
			make_group(aside, name, args[2])
		end
		remove_idle_consumers(aside, name, args[2], tonumber(args[3]))
	end
	return { group['pending'], first, lag, removed, delivered, info['last-generated-id'], waiting }
end

-- ---- the form of the data ----

local former -- see above

-- The number of partitions with which the data was begun; nil: there is no data.
local function partitions_of(prefix)
	return call('GET', prefix .. 'partitions') or
		call('EXISTS', prefix .. 'events') == 1 and open_stream(prefix .. 'events').last ~= '0-0' and '1' or nil
end

local function version(keys, args)
	local prefix = prefix_of(keys[1])
	local begun = args[1] and partitions_of(prefix)
	if begun == MIGRATING then
		return redis.error_reply('PARTITIONS the data in ' .. prefix ..
			'* is not complete: tandemctl migrate has not ended')
	elseif begun and begun ~= args[1] then
		return redis.error_reply('PARTITIONS the data in ' .. prefix .. '* has ' .. begun ..
			' partitions, and this service is set to ' .. args[1])
	end
	local format = former and call('GET', prefix .. 'format')
	if former and format ~= FORMAT then
		if format or former.is_there(prefix) then
			return redis.error_reply('ERR an earlier version wrote ' .. prefix ..
				'*: stop its services, then run tandemctl functions load')
		end
		call('SET', prefix .. 'format', FORMAT)
	end
	if args[1] and not call('GET', prefix .. 'partitions') then
		call('SET', prefix .. 'partitions', args[1])
	end
	partition_count = args[1]
	return '@VERSION@'
end

local function upgrade(keys, args)
	local prefix, cursor, rewritten, damaged = prefix_of(keys[1]), '0', 0, 0
	if former and call('GET', prefix .. 'format') ~= FORMAT then
		call('SET', prefix .. 'format', UPGRADING)
		cursor, rewritten, damaged = former.page(prefix, args[1])
		if cursor == '0' then
			call('SET', prefix .. 'format', FORMAT)
		end
	end
	return { cursor, rewritten, damaged }
end

outcomes.upgrade = function(answer)
	return answer[2] > 0 and 'rewrote ' .. answer[2] .. ' orders of an earlier version' or nil
end

register('operate', operate, 'allow-oom')
callbacks.replay, callbacks.discard = replay, discard
callbacks.exclude, callbacks.include, callbacks.remove_group = exclude, include, remove_group
register('trim', trim, 'allow-oom')
register('behind', behind, 'no-writes', 'allow-oom')
register('acknowledge', function(keys, args)
	acknowledge(keys, args[1], args, 2)
end, 'allow-oom')
register('set_aside', set_aside, 'allow-oom')
register('dead_letter', dead_letter, 'allow-oom')
register('pending', pending, 'allow-oom')
register('cursor', cursor, 'allow-oom')
register('version', version, 'allow-oom')
register('upgrade', upgrade, 'allow-oom')
