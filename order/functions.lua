-- functions.lua - the atomic steps of the order service. The library begins with runtime/events/events.lua,
-- then come the rules of order_step.c as tables.c writes them: EVENTS, RULES, AGAIN_WORD.
--
-- The caller passes everything else: time, ids and bytes. Calls take batches; what a batch can share (XINFO, ZADD, ZREM, XACK) is done once. Writes come after every
-- check that can fail.
--
-- The time ("now") is one argument: unix ms and, in its last 24 characters, the same as RFC 3339
-- text; '' means "as for the one before it". Created and changed are the ms of stream ids, unless
-- these are ahead of the time: then '~<unix ms>' behind an id in the history gives it.
--
-- Keys, all with the prefix of KEYS[1] ('order:{0}:events' gives 'order:{0}:'):
--
--   o:<order id>   hash: the order: status, version, placed, hold and history; settled, detail and
--            attempt where there is one
--   customer:<customer id>   sorted set: the customer's order ids, by unix ms of their placing
--   timers   sorted set: order id → unix ms at which to look at the order again; orders that are
--            settled are not in it
--   events   stream: what happened to orders
--
-- The hash o:<order id>:
--   status version placed hold history    always
--   settled                               '1' once inventory has answered the last request
--   detail                                data of the event that ended it, when it has any
--   attempt                               of the request under way, when it is not the first

-- A record, as it is read and answered. The first six are its state, the last two its bytes.
local STATUS, SETTLED, VERSION, HOLD, ATTEMPT, HISTORY, PLACED, DETAIL = 1, 2, 3, 4, 5, 6, 7, 8

-- The group that is asked.
local INVENTORY = 'inventory'
-- The version after a small one, as text.
local SMALL = { ['1'] = '2', ['2'] = '3', ['3'] = '4', ['4'] = '5' }
-- From this attempt on the last 'again' of a history is replaced: it must not grow for ever.
local AGAIN_KEPT = 8

local function split_now(now)
	return string.sub(now, 1, -25), string.sub(now, -24)
end

-- An order that is damaged counts as unknown.
local function checked(record)
	if record.err or not record[STATUS] or not tonumber(record[VERSION]) or
			not record[HISTORY] then
		return nil
	end
	return record
end

local function read_state(key)
	return checked(redis.pcall('HMGET', key, 'status', 'settled', 'version', 'hold', 'attempt',
		'history'))
end

local function read_record(key)
	return checked(redis.pcall('HMGET', key, 'status', 'settled', 'version', 'hold', 'attempt',
		'history', 'placed', 'detail'))
end

-- Reads the rest of a record whose state was read.
local function complete(key, record)
	if record[PLACED] == nil then
		local bytes = redis.call('HMGET', key, 'placed', 'detail')
		record[PLACED], record[DETAIL] = bytes[1], bytes[2]
	end
	return record
end

-- Adds the position of the published entries to the answers: after which id, up to which.
local function add_range(answers, before, stream)
	answers[#answers + 1] = before
	answers[#answers + 1] = stream.last
end

-- FCALL order_place 1 <own stream> <length_max> { <id> <flags> <customer> <placed> <hold> <now>
-- <due> <traceparent> } …
--   flags: 'f' when the id is fresh, so that it cannot have been placed before.
-- Answers for each: the stream id of OrderPlaced and stream.told; 0 when the id was used for something else; or
-- the record when it was placed before with the same content. Behind them, when anything was
-- published: the id of the last entry before it, and of the last one of it.

local function placed_before(key, seen, id, placed)
	local record = seen[id]
	if not record then
		record = redis.pcall('HGET', key, 'placed')
		if type(record) == 'table' then
			return 0 -- the order's key holds something else
		end
	end
	if not record then
		return nil
	end
	return record == placed and 1 or 0
end

local function place(keys, args)
	local key = keys[1]
	local prefix = prefix_of(key)
	local orders, customers = prefix .. 'o:', prefix .. 'customer:'
	local stream = open_stream(key)
	if stream.length >= tonumber(args[1]) then
		return redis.error_reply('OOM ' .. key .. ' has reached its hard length')
	end
	local before = stream.last
	local answers, seen, timers = {}, {}, {}
	for i = 2, #args, 8 do
		local id = args[i]
		local found = args[i + 1] ~= 'f' and
			placed_before(orders .. id, seen, id, args[i + 3])
		answers[#answers + 1] = found or false
		if not found then
			seen[id] = args[i + 3]
			timers[#timers + 1] = args[i + 6]
			timers[#timers + 1] = id
		end
	end
	if #timers > 0 then
		redis.call('ZADD', prefix .. 'timers', unpack(timers))
	end
	local now_ms, time
	local n = 0
	for i = 2, #args, 8 do
		local id = args[i]
		if args[i + 5] ~= '' then
			now_ms, time = split_now(args[i + 5])
		end
		n = n + 1
		local found = answers[n]
		if found == 1 then
			answers[n] = read_record(orders .. id) or 0
		elseif not found then
			local entry, ms, number = stream:publish(now_ms, time, EVENTS.PLACED.type, id,
				'1', args[i + 3], nil, args[i + 7])
			redis.call('HSET', orders .. id, 'status', 'PENDING', 'version', '1', 'placed',
				args[i + 3], 'hold', args[i + 4], 'history',
				EVENTS.PLACED.word .. '@' .. ms .. '-' .. number .. stream.told)
			redis.call('ZADD', customers .. args[i + 2], stream.told == '' and ms or now_ms,
				id)
			answers[n] = entry .. stream.told
		end
	end
	if #timers > 0 then
		add_range(answers, before, stream)
	end
	return answers
end

-- FCALL order_find 1 <own stream> { <id> <placed> } …
-- For requests that order_place refused because storage is full: answers for each the record when it was
-- placed before with the same content, 0 when the id was used for something else, nil otherwise.

local function find(keys, args)
	local orders = prefix_of(keys[1]) .. 'o:'
	local answers = {}
	for i = 1, #args, 2 do
		local found = placed_before(orders .. args[i], {}, args[i], args[i + 1])
		if found == 1 then
			found = read_record(orders .. args[i]) or 0
		end
		answers[#answers + 1] = found or false
	end
	return answers
end

-- FCALL order_move 1|2 <own stream> [<inventory's stream>] <group> { <id> <what> <now> <due> <data>
-- <traceparent> <ack> } …
--   what: the input's letter; what is wanted: 'w' the record, 'h' the history, '-' neither; then
--   expected_version.
--   ack: the entry of inventory's stream that is acknowledged with it; ''. An event of an unknown
--   order is not acknowledged: an operator should see it.
-- Answers for each, alone or in front of the record: 'U' for an unknown order, else the outcome
-- (M moved or asked again, S stays, F refused, V another version), the letter of the state,
-- <version> and, only for M, behind a space the ms since it was placed, and behind another the history
-- if that is wanted. After all of them, as in order_place: the position of the published entries.

local RECORD, HISTORY_ONLY = 119, 104 -- the bytes 'w', 'h': while it is loaded a library has no 'string'

-- What an event carries: the request again; what the caller gives; or what ended the order before.
local function content_of(key, record, rule, data)
	if rule.event == EVENTS.PLACED then
		return complete(key, record)[PLACED] or ''
	elseif not rule.event.has_detail then
		return ''
	elseif data ~= '' then
		return data
	end
	return complete(key, record)[DETAIL] or ''
end

-- Publishes a rule's event; returns the history with it, and the ms since the order was placed.
local function publish_move(stream, record, rule, id, version, now, content, history, word,
		attempt)
	local _, ms, number = stream:publish(now.ms, now.time, rule.event.type, id, version,
		content, attempt, now.traceparent)
	local first = string.match(record[HISTORY], '^%a+@(%d+)') or ms
	local age = string.format('%d', stream.ms - first)
	history = history .. ' ' .. word .. '+' .. age .. '-' .. number .. stream.told
	if string.find(history, '~', 1, true) then -- the ids are not the times
		first = string.match(record[HISTORY], '^%a+@%d+%-%d+~(%d+)') or first
		age = string.format('%d', tonumber(now.ms) - first)
	end
	return history, age
end

-- The order moves: a new version, and its first attempt.
local function move_on(stream, key, record, rule, id, now, data)
	local version = SMALL[record[VERSION]] or string.format('%d', record[VERSION] + 1)
	local content = content_of(key, record, rule, data)
	local history, age = publish_move(stream, record, rule, id, version, now, content,
		record[HISTORY], rule.event.word)
	if rule.settles then
		redis.call('HSET', key, 'status', rule.status, 'version', version, 'history', history,
			'settled', '1')
	else
		redis.call('HSET', key, 'status', rule.status, 'version', version, 'history', history)
	end
	if rule.event.has_detail and data ~= '' then
		redis.call('HSET', key, 'detail', data)
		record[DETAIL] = data
	end
	if rule.opens or record[ATTEMPT] then
		redis.call('HDEL', key, 'attempt', rule.opens and 'settled' or 'attempt')
	end
	record[STATUS], record[VERSION], record[HISTORY] = rule.status, version, history
	record[SETTLED] = not rule.opens and (record[SETTLED] or rule.settles and '1')
	record[ATTEMPT] = false
	return age
end

-- The request that is under way is published once more, as the same version.
local function ask_again(stream, key, record, rule, id, now, data)
	local attempt = string.format('%.0f', (tonumber(record[ATTEMPT]) or 1) + 1)
	local content = content_of(key, record, rule, data)
	local history, age = record[HISTORY]
	if tonumber(attempt) > AGAIN_KEPT then
		history = string.gsub(history, ' ' .. AGAIN_WORD .. '%+[^ ]*$', '')
	end
	history, age = publish_move(stream, record, rule, id, record[VERSION], now, content,
		history, AGAIN_WORD, attempt)
	record[ATTEMPT], record[HISTORY] = attempt, history
	redis.call('HSET', key, 'attempt', attempt, 'history', history)
	return age
end

local function set_timers(key, timers)
	local set, removed = {}, {}
	for id, due in pairs(timers) do
		if due then
			set[#set + 1] = due
			set[#set + 1] = id
		else
			removed[#removed + 1] = id
		end
	end
	if #set > 0 then
		redis.call('ZADD', key, unpack(set))
	end
	if #removed > 0 then
		redis.call('ZREM', key, unpack(removed))
	end
end

-- When the timer of an order that moved is due; false: never; nil: as it was.
local function timer_after(rule, record, now, retry_due)
	if rule.timer == 'RETRY' then
		return retry_due
	elseif rule.timer == 'HOLD' then
		if record[HOLD] ~= now.hold then -- most orders of a batch have the same
			now.hold = record[HOLD]
			now.hold_due = string.format('%d',
				tonumber(now.ms) + (tonumber(record[HOLD]) or 0))
		end
		return now.hold_due
	elseif rule.timer == 'NONE' then
		return false
	end
end

-- Events that ask for nothing are for watchers. Inventory would read them only to acknowledge them, at
-- a tenth of what an order costs Redis. So when it has read all up to `before`, its place in the stream
-- is moved past the next `count` events, up to `id`, that ask for nothing. Other groups read everything.
local function pass_over(key, before, id, count)
	local group = find_group(key, INVENTORY)
	if not group or group['last-delivered-id'] ~= before then
		return
	elseif group['entries-read'] then
		redis.call('XGROUP', 'SETID', key, INVENTORY, id, 'ENTRIESREAD',
			group['entries-read'] + count)
	else
		redis.call('XGROUP', 'SETID', key, INVENTORY, id)
	end
end

local function move(keys, args)
	local orders = prefix_of(keys[1]) .. 'o:'
	local answers, timers, acks = {}, {}, {}
	local now = {}
	local stream, before
	local skipped, request_from = 0 -- events in front of the first request; and the id there
	for i = 2, #args, 7 do
		local id, what = args[i], args[i + 1]
		if args[i + 2] ~= '' then
			now.ms, now.time = split_now(args[i + 2])
			now.hold = nil
		end
		local key = orders .. id
		local record = read_state(key)
		local rules = record and
			(record[SETTLED] and RULES.settled or RULES.open)[record[STATUS]]
		local answer = 'U'
		if rules then
			local input, wanted, expects = string.byte(what, 1, 3)
			local rule = rules[input]
			if expects and string.sub(what, 3) ~= record[VERSION] then
				answer = 'V' .. rule.from .. record[VERSION]
			elseif rule.verdict == 'M' or rule.verdict == 'A' then
				if not stream then
					stream = open_stream(keys[1])
					before = stream.last
				end
				if not rule.asks and not request_from then
					skipped = skipped + 1
				end
				request_from = request_from or rule.asks and stream.last
				now.traceparent = args[i + 5]
				local act = rule.verdict == 'M' and move_on or ask_again
				local age = act(stream, key, record, rule, id, now, args[i + 4])
				answer = 'M' .. rule.to .. record[VERSION] .. ' ' .. age
				if wanted == HISTORY_ONLY then
					answer = answer .. ' ' .. record[HISTORY]
				end
				local due = timer_after(rule, record, now, args[i + 3])
				if due ~= nil then
					timers[id] = due
				end
			else
				answer = rule.verdict .. rule.from .. record[VERSION]
			end
			if args[i + 6] ~= '' then
				acks[#acks + 1] = args[i + 6]
			end
			if wanted == RECORD then
				answer = { answer, complete(key, record) }
			end
		end
		answers[#answers + 1] = answer
	end
	set_timers(prefix_of(keys[1]) .. 'timers', timers)
	if skipped > 0 then
		pass_over(keys[1], before, request_from or stream.last, skipped)
	end
	if #acks > 0 then
		redis.call('XACK', keys[2], args[1], unpack(acks))
	end
	if stream then
		add_range(answers, before, stream)
	end
	return answers
end

-- FCALL order_list 1 <own stream> <customer> <count> <before_ms> <before_id> <bytes>
-- A customer's orders, newest first, after the one named; before_id '': from the newest. At most
-- <count>, and not more than <bytes> except for the first.
-- Answers { more (0 or 1), id, record, id, record, … }, false for a damaged record.

local RECORD_BYTES = 512 -- what an order takes beside what it was placed and ended with

local function list(keys, args)
	local prefix = prefix_of(keys[1])
	local key = prefix .. 'customer:' .. args[1]
	local count = tonumber(args[2])
	local ids
	local rank = args[4] ~= '' and redis.call('ZREVRANK', key, args[4])
	if args[4] == '' then
		ids = redis.call('ZREVRANGE', key, 0, count)
	elseif rank then
		ids = redis.call('ZREVRANGE', key, rank + 1, rank + 1 + count)
	else
		ids = redis.call('ZREVRANGEBYSCORE', key, '(' .. args[3], '-inf', 'LIMIT', 0,
			count + 1)
	end
	local answer, bytes = { 0 }, 0
	for i, id in ipairs(ids) do
		local record = i <= count and read_record(prefix .. 'o:' .. id) or false
		if record then
			bytes = bytes + RECORD_BYTES + #(record[PLACED] or '') + #(record[DETAIL] or '')
		end
		if i > count or i > 1 and bytes > tonumber(args[5]) then
			answer[1] = 1
			break
		end
		answer[#answer + 1] = id
		answer[#answer + 1] = record
	end
	return answer
end

-- FCALL order_due 1 <own stream> <now_ms> <lease_until_ms> <count> <group>
-- Returns and leases orders whose timer has run out. Timers of orders that are settled or gone are
-- removed. `queued`: <group> has not read the last request yet.
-- Answers { timers in all, id, queued (0 or 1), record, id, … }.

local function last_request_id(history)
	local first_ms, first_n = string.match(history, '^%a+@(%d+)%-(%d+)')
	local age, n = string.match(history, '%+(%-?%d+)%-(%d+)~?%d*$')
	if age then
		return string.format('%.0f', (first_ms or 0) + age) .. '-' .. n
	end
	return first_ms and first_ms .. '-' .. first_n
end

local function delivered_to(key, name)
	local groups = redis.pcall('XINFO', 'GROUPS', key)
	if groups.err then
		return nil
	end
	for _, reply in ipairs(groups) do
		local group = named(reply)
		if group['name'] == name then
			return group['last-delivered-id']
		end
	end
end

local function is_queued(key, record, delivered)
	local id = last_request_id(record[HISTORY])
	return delivered ~= nil and id ~= nil and id_less(delivered, id) and
		#redis.call('XRANGE', key, id, id) > 0
end

local function due(keys, args)
	local key = keys[1]
	local prefix = prefix_of(key)
	local timers = prefix .. 'timers'
	local ids = redis.call('ZRANGEBYSCORE', timers, '-inf', args[1], 'LIMIT', 0, args[3])
	local answer = { redis.call('ZCARD', timers) }
	local delivered = #ids > 0 and delivered_to(key, args[4]) or nil
	local changes = {}
	for _, id in ipairs(ids) do
		local record = read_record(prefix .. 'o:' .. id)
		if record and not record[SETTLED] then
			answer[#answer + 1] = id
			answer[#answer + 1] = is_queued(key, record, delivered) and 1 or 0
			answer[#answer + 1] = record
			changes[id] = args[2]
		else
			changes[id] = false
		end
	end
	set_timers(timers, changes)
	return answer
end

-- FCALL order_timer 1 <own stream> <id> <version> <due>
-- Sets the timer of an order that is still at this version and not settled. Answers 1 if so.

local function timer(keys, args)
	local prefix = prefix_of(keys[1])
	local record = redis.call('HMGET', prefix .. 'o:' .. args[1], 'version', 'settled')
	if record[1] ~= args[2] or record[2] then
		return 0
	end
	redis.call('ZADD', prefix .. 'timers', args[3], args[1])
	return 1
end

register('place', place)
register('find', find, 'no-writes', 'allow-oom')
register('move', move, 'allow-oom')
register('list', list, 'no-writes', 'allow-oom')
register('due', due, 'allow-oom')
register('timer', timer, 'allow-oom')
