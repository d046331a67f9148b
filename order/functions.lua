-- functions.lua - the atomic steps of the order service. The library begins with
-- runtime/events/events.lua; then come the rules of order_step.c as tables.c writes them (EVENTS, RULES,
-- AGAIN_WORD, EXTENSIONS_MAX), then this file.
--
-- The caller passes everything else: time, ids and bytes. Calls take batches, and publish the events of a
-- call as one entry of the stream: this saves commands and arguments, which Redis executes and writes to
-- its append-only file. Writes come after every check that can fail.
--
-- Keys, all with the prefix of KEYS[1] ('order:{0}:events' gives 'order:{0}:'):
--
--   orders   hash: order id → the order, one text: its state, version, hold, history and content, as below
--   customer:<customer id>   sorted set: the customer's order ids, by unix ms of their placing
--   pending:<customer id>   sorted set with an expiry: the customer's orders that inventory may not have answered yet, of
--            customers whose gateway bounds them (--pending-per-caller)
--   timers   sorted set: order id → unix ms at which to look at the order again; orders that are
--            settled are not in it
--   events   stream: what happened to orders
--   dropped   string: the unix ms of the placing of the newest order that was dropped here since the archive has it; no key:
--            none was
--   dropped_ids   string: bits: which ids orders may have had that were dropped since the archive has them, of those
--            whose clients repeat requests: three for each, chosen by its characters
--   earlier_ids   hash: the id that a request would have now → the id that its order has. Of orders that were placed
--            when there was one partition, and moved (tandemctl migrate). It may be deleted once nobody repeats
--            requests of that time
--   format   string: the form of the data: 2; 'upgrading' while older data is rewritten
--
-- An order is one text:
--
--   <STATE> <version> <hold ms>[ attempt=<n>] <history>\n<length of placed>\n<placed><actors><detail>
--
--   STATE     the status, followed by '~' while an ended order waits for inventory's answer
--   hold ms   how long it is RESERVED at most; an extension makes it longer
--   attempt   of the current request, when it is not the first
--   history   see struct order_record in store.h; it begins with placed@<stream id>
--   placed    OrderPlaced, as it was published
--   actors    OrderActors: who placed, confirmed or cancelled it, the last first, and in which trace it was placed;
--             nothing if they are not known
--   detail    data of the event that ended it (Rejected, Cancelled, Expired), if that has any; of the last return, if there
--             was one
--
-- So HGET order:{0}:orders <order id> shows
--   RESERVED 2 900000 placed@1764000000123-4711 reserved+2-4802
-- followed by the bytes of its content.

-- From this attempt on the last 'again' of a history is replaced, so that it does not grow forever.
local AGAIN_KEPT = 8

-- The step for a head ('PENDING 1 900000') and an input, cached: most orders have one of a few heads.
local STEPS_MAX = 4096
local steps, steps_count = {}, 0 -- by the byte of the input's letter, then by the head

local function make_step(input, head)
	local state, version, hold, attempt =
		match(head, '^(%S+) (%d+) (%d+)(.*)$')
	local rules = state and RULES[state]
	local rule = rules and rules[input]
	if not rule or attempt ~= '' and not match(attempt, '^ attempt=%d+$') then
		return false
	end
	local step = { rule = rule, was = version, version = version, hold = tonumber(hold),
		answer = rule.verdict .. rule.from .. version }
	if rule.verdict == 'M' then
		step.version = format('%.0f', version + 1)
		step.head = rule.state .. ' ' .. step.version .. ' ' .. hold
	elseif rule.verdict == 'A' then
		step.attempt = format('%.0f', (tonumber(sub(attempt, 10)) or 1) + 1)
		step.head = state .. ' ' .. version .. ' ' .. hold .. ' attempt=' .. step.attempt
	end
	if step.head then
		step.answer = 'M' .. rule.to .. step.version .. ' '
		step.name = '/' .. step.version
		step.type, step.word = rule.event.type, ' ' .. (step.attempt and AGAIN_WORD or rule.event.word) .. '+'
		step.extends = rule.event == EVENTS.EXTENDED
		step.carries = rule.event == EVENTS.PLACED or step.extends or rule.event.has_detail
	end
	return step
end

local function step_of(input, head)
	local of_input = steps[input]
	local step = of_input and of_input[head]
	if step == nil then
		if steps_count >= STEPS_MAX then
			steps, steps_count = {}, 0
		end
		step = make_step(input, head)
		steps[input] = steps[input] or {}
		steps[input][head], steps_count = step, steps_count + 1
	end
	return step
end

-- The history that was read last, and when its order was placed: the first half of the stream id, and the real time.
-- Most orders of a batch were placed in one, so their histories are the same.
local last_history, first_ms, placed_ms

-- Reads when an order was placed. False: the history is damaged.
local function read_history(history)
	if history == last_history then
		return true
	end
	local _, id_end, ms = find(history, '^(%d+)%-%d+', 9) -- behind ' placed@'
	if not id_end then
		return false
	end
	last_history, first_ms = history, tonumber(ms)
	placed_ms = byte(history, id_end + 1) == 126 and -- '~'
		tonumber(match(history, '^%d+', id_end + 2)) or first_ms
	return true
end

-- The start and end of the history in an order's text, and the history; nil: the order is damaged.
local function history_of(text)
	local from = find(text, ' placed@', 1, true)
	local to = from and find(text, '\n', from, true)
	local history = to and sub(text, from, to - 1)
	if history and read_history(history) then
		return from, to, history
	end
end

-- The bytes that follow the history in an order's text: placed; actors and detail.
local function contents_of(text, to)
	local line = find(text, '\n', to + 1, true)
	local length = line and tonumber(sub(text, to + 1, line - 1))
	if not length then
		return '', ''
	end
	return sub(text, line + 1, line + length), sub(text, line + length + 1)
end

-- The number in which a varint of a packed message stands, and the position behind it.
local function read_varint(text, at)
	local n, factor = 0, 1
	while true do
		local b = byte(text, at) or 0 -- behind the end: the content is damaged
		at = at + 1
		if b < 128 then
			return n + factor * b, at
		end
		n, factor = n + factor * (b - 128), 128 * factor
	end
end

-- The field of OrderActors begins so, and none of a detail does: a build that knows no actors takes them for a part of the
-- detail, in which it has no such field.
local ACTOR_KEY, ACTOR_BYTE = '\122', 122

-- An order's actors, and its detail, of the bytes that follow placed.
local function split_rest(rest)
	if byte(rest) ~= ACTOR_BYTE then
		return '', rest
	end
	local at = 1
	while byte(rest, at) == ACTOR_BYTE do
		local length, from = read_varint(rest, at + 1)
		at = from + length
	end
	return sub(rest, 1, at - 1), sub(rest, at)
end

-- Who made an order what it is at this version, as an item of OrderActors.
local function packed_actor(version, actor)
	local item = '\8' .. varint(tonumber(version)) .. '\18' .. varint(#actor) .. actor
	return ACTOR_KEY .. varint(#item) .. item
end

-- The trace in which it was placed, as such an item of no version.
local function packed_trace(traceparent, tracestate)
	local item = '\26' .. varint(#traceparent) .. traceparent
	if tracestate then
		item = item .. '\34' .. varint(#tracestate) .. tracestate
	end
	return ACTOR_KEY .. varint(#item) .. item
end

-- Texts of orders, by id; false for one that does not exist. Fails if the key is not a hash.
local function read_orders(key, ids, from, to)
	local texts = call('HMGET', key, unpack(ids, from, to))
	local orders = {}
	for i = from, to do
		orders[ids[i]] = texts[i - from + 1]
	end
	return orders
end

-- ---- place ----

-- FCALL order_place 1 <own stream> <now_ms> <time> <due> <flags><events_max> { <id> <customer> <hold>
--       <placed> } … [0 <pending_max> ''] { <position> <trace> <actor> } …
--   flags: a letter per order; 'f' when the id is fresh: no order can have it; 'a' when the archive has no order with it;
--   else '-'. 'F', 'A' and '+' instead, when its customer may have only <pending_max> orders that inventory has not answered.
-- Answers '<letters> <before> <last>' or { that, text, … }: P placed, B placed before with the same content, E the same under an
-- earlier id, C the id was used for something else, X not placed, because the customer has too many, D not placed,
-- because there may have been an order with the id that was dropped: the archive knows; the id of the last entry before the
-- call, and of the last one after it, followed by stream.time_mark; for the orders with B, D and E, in their order: with D
-- and E the id that the order has or had, with B and E its text.
local PLACE_ARGS = 4

-- The flags of the last call, and what they say: how many orders there are, whether some may have been placed before, and whether
-- some are counted.
local flags, flag_count, events_max, asks, counts

local function read_flags(text)
	local at = find(text, '%d')
	flags, flag_count, events_max = text, at - 1, tonumber(sub(text, at))
	asks, counts = find(text, '[-+aA]'), find(text, '[F+A]')
end

-- The orders that `ids` would name if they had not been placed under other ids, by these; nil: there are none.
local function read_earlier(own, ids)
	if not has_partitions(own) or call('EXISTS', own.earlier_ids) == 0 then
		return nil
	end
	local found, earlier, names = call('HMGET', own.earlier_ids, unpack(ids)), {}, {}
	for i = 1, #ids do
		earlier[ids[i]] = found[i] or nil
		names[#names + 1] = found[i] or nil
	end
	return #names > 0 and { ids = earlier, texts = read_orders(own.orders, names, 1, #names) } or nil
end

-- ---- ids of dropped orders ----

-- In one table: a library may have 200 locals.
local drops = {
	-- Bits in all partitions together: 8 MiB. If n ids are noted, an id that is not among them looks as if it were with a
	-- chance of (1 - e^(-3n/bits))^3: 1 in 1000 at 2.3 million, 1 in 20 at 10 million.
	bits = 67108864, bits_of_id = 3,
	bucketed = '[bfjnrvz5]$', -- the last character of ids with a bucket
	-- Whether any ids are noted, by own keys: true, or when it was looked, in unix ms. This process learns it late when another
	-- master wrote them, so it looks again, but not in every call.
	noted = {}, look_ms = 1000,
	args = 4, -- of order_drop, in front of the orders
	archived = 118, -- the byte 'v'
	made_ms = 60000, -- between making an order's id and placing it
}

-- Whether the archive was asked about order i.
function drops.is_asked(flags, i)
	local flag = byte(flags, i)
	return flag == 97 or flag == 65 -- 'a', 'A'
end

-- The places of an id's bits. An id with a bucket has the same as the one that its request had before there were
-- partitions: two characters in front, and the last ones are other (order_id_put_bucket).
function drops.add_places(list, own, id, ...)
	local bits = drops.bits
	if has_partitions(own) then
		bits = bits / partition_count
	end
	local at = find(id, drops.bucketed) and 7 or 5
	for _ = 1, drops.bits_of_id do
		list[#list + 1], list[#list + 2] = ...
		list[#list + 1] = format('%d', (tonumber(sub(id, at, at + 6), 36) or 0) % bits)
		list[#list + 1] = select(3, ...)
		at = at + 7
	end
end

function drops.has_noted(own, now_ms)
	local known = drops.noted[own]
	if known ~= true and (not known or now_ms - known >= drops.look_ms or now_ms < known + 0) then
		known = call('EXISTS', own.dropped_ids) == 1 or now_ms + 0
		drops.noted[own] = known
	end
	return known == true
end

-- Of those of `ids` that no order has, the ones that a dropped order may have had, as a set; nil: none.
function drops.read(own, ids, known, now_ms)
	local unknown, command, dropped = {}, { own.dropped_ids }, nil
	if not drops.has_noted(own, now_ms + 0) then
		return nil
	end
	for _, id in ipairs(ids) do
		if not known.texts[id] then
			unknown[#unknown + 1] = id
			drops.add_places(command, own, id, 'GET', 'u1')
		end
	end
	if #unknown == 0 then
		return nil
	end
	local bits = call('BITFIELD_RO', unpack(command))
	for i, id in ipairs(unknown) do
		local all = 1
		for k = drops.bits_of_id * (i - 1) + 1, drops.bits_of_id * i do
			all = all * bits[k]
		end
		if all == 1 then
			dropped = dropped or {}
			dropped[id] = true
		end
	end
	return dropped
end

-- What is known of ids that may have been used before: the orders, those under earlier ids, and which may be of dropped
-- orders.
local function read_known(own, ids, now_ms)
	local known = { texts = read_orders(own.orders, ids, 1, #ids), earlier = read_earlier(own, ids) }
	known.dropped = drops.read(own, ids, known, now_ms)
	return known
end

-- The letter for an id that was used before, or perhaps was, and the id that its order has; nil: it was not used.
-- `asked`: no dropped order has it.
local function placed_before(known, id, placed, asked)
	local text, name, letter = known.texts[id], id, 'B'
	if not text and known.earlier then
		name, letter = known.earlier.ids[id], 'E'
		text = name and known.earlier.texts[name]
	end
	if not text then
		if known.dropped and known.dropped[id] and not asked then
			return 'D', name or id
		end
		return nil
	end
	local _, to = history_of(text)
	if to and contents_of(text, to) == placed then
		return letter, name
	end
	return 'C'
end

-- Adds orders that were placed before, or perhaps were, to an answer: of each its letter and its id.
local function add_again(own, again, answer)
	local names = {}
	for i = 2, #again, 2 do
		names[i / 2] = again[i]
	end
	local texts = call('HMGET', own.orders, unpack(names))
	for i, name in ipairs(names) do
		if again[2 * i - 1] ~= 'B' then
			answer[#answer + 1] = name
		end
		if again[2 * i - 1] ~= 'D' then
			answer[#answer + 1] = texts[i]
		end
	end
end

-- Reads the orders whose ids may have been used before; nil when there are none.
local function known_orders(own, args, n)
	if not asks then
		return nil
	end
	local ids = {}
	for i = 1, n do
		local flag = byte(args[PLACE_ARGS], i)
		if flag ~= 102 and flag ~= 70 then -- 'f', 'F'
			ids[#ids + 1] = args[PLACE_ARGS + 4 * i - 3]
		end
	end
	return read_known(own, ids, args[1])
end

-- ---- customers whose orders are counted ----

-- The truth is in the orders; the customer's set only says which may be undecided. While it is small nobody looks whether
-- they still are. When it has grown, each call looks at the oldest, twice as many as it adds and some more: those that
-- are answered leave the set, the others go to its end. So a set is hardly larger than what is undecided, and a refused
-- order costs little more than any.
local PENDING_FEW, PENDING_LOOKED_AT, PENDING_KEPT_MS = 64, 8, 3600000

local function waits_for_inventory(text)
	local state = text and match(text, '^%S+')
	return state and (state == 'PENDING' or byte(state, -1) == 126) -- '~'
end

-- Looks at the `count` oldest of the set. Returns how many were removed from it.
local function remove_answered(own, key, now, count)
	local ids = call('ZRANGE', key, 0, count - 1)
	local orders, answered, waiting = read_orders(own.orders, ids, 1, #ids), {}, {}
	for _, id in ipairs(ids) do
		if waits_for_inventory(orders[id]) then
			waiting[#waiting + 1], waiting[#waiting + 2] = now, id
		else
			answered[#answered + 1] = id
		end
	end
	if #answered > 0 then
		call('ZREM', key, unpack(answered))
	end
	if #waiting > 0 then
		call('ZADD', key, unpack(waiting))
	end
	return #answered
end

local function is_counted(args, i)
	local flag = byte(args[PLACE_ARGS], i)
	return flag == 70 or flag == 43 or flag == 65 -- 'F', '+', 'A'
end

-- How many more undecided orders each customer of counted orders may have; nil: none are counted.
local function read_room(own, args, n)
	if not counts then
		return nil
	end
	local wanted, room, max = {}, {}, tonumber(args[PLACE_ARGS + 4 * n + 2])
	for i = 1, n do
		if is_counted(args, i) then
			local customer = args[PLACE_ARGS + 4 * i - 2]
			wanted[customer] = (wanted[customer] or 0) + 1
		end
	end
	for customer, orders in pairs(wanted) do
		local key = own['pending:'] .. customer
		local count = call('ZCARD', key)
		if count >= PENDING_FEW or count > 0 and count + orders > max then
			count = count - remove_answered(own, key, args[1], 2 * orders + PENDING_LOOKED_AT)
		end
		room[customer] = max - count
	end
	return room
end

-- Adds the trace contexts and the actors of the orders that are placed to the batch.
local function add_causes(args, n, letters, batch)
	local places, m = {}, 0
	for at = PLACE_ARGS + 4 * n + 1, #args, 3 do
		places[tonumber(args[at])] = at
	end
	for i = 1, n do
		if letters[i] == 'P' then
			m = m + 1
			if places[i] then
				add_details(batch, m, nil, nil, args[places[i] + 1], args[places[i] + 2])
			end
		end
	end
end

-- Of the current call, used again by the next: a letter for each order, contents, pairs for ZADD and HSET.
local letters, data, timers, written = {}, {}, {}, {}
local placed_by, placed_in, placed_state -- of its new orders the actors, traceparents and tracestates; false: there are none

-- Decides about n orders: sets a letter for each, and adds the new ones to the batch. Returns the number of new
-- ones, and of those that were placed before the letter and the id of each.
local function place_all(own, args, n, batch)
	local known, room = known_orders(own, args, n), read_room(own, args, n)
	local types, names, placed_type, due = batch.types, batch.names, EVENTS.PLACED.type, args[3]
	local again, m = nil, 0
	begin_details(batch, data)
	for i = 1, n do
		local at = PLACE_ARGS + 4 * i - 3
		local id, placed = args[at], args[at + 3]
		local letter, name
		if known then
			letter, name = placed_before(known, id, placed, drops.is_asked(args[PLACE_ARGS], i))
		end
		if letter then
			letters[i] = letter
			if name then
				again = again or {}
				again[#again + 1], again[#again + 2] = letter, name
			end
		elseif counts and is_counted(args, i) and room[args[at + 1]] <= 0 then
			letters[i] = 'X'
		else
			if counts and is_counted(args, i) then
				room[args[at + 1]] = room[args[at + 1]] - 1
			end
			m = m + 1
			letters[i], types[m], names[m], data[m] = 'P', placed_type, id .. '/1', placed
			timers[2 * m - 1], timers[2 * m] = due, id
			if known and known.texts[id] == false then
				known.texts[id] = '? placed@0-0\n' .. #placed .. '\n' .. placed -- until it is stored
			end
		end
	end
	return m, again
end

-- Writes the m new orders, whose events will be in the newest entry. If a key is of another type it fails and writes
-- nothing.
local function write_placed(stream, m, args)
	local own = stream.own
	local tail = ' ' .. EVENTS.PLACED.word .. '@' .. stream.last .. stream.time_mark .. '\n'
	local k, hold, head = 0, nil, nil
	for i = 1, flag_count do
		if letters[i] == 'P' then
			local at = PLACE_ARGS + 4 * i - 3
			local placed = args[at + 3]
			if args[at + 2] ~= hold then
				hold = args[at + 2]
				head = 'PENDING 1 ' .. hold .. tail
			end
			written[k + 1], written[k + 2] = args[at], head .. number_text(#placed) .. '\n' .. placed
			k = k + 2
		end
	end
	for j = 1, (placed_by or placed_in) and m or 0 do
		if placed_by and placed_by[j] then
			written[2 * j] = written[2 * j] .. packed_actor(1, placed_by[j])
		end
		if placed_in and placed_in[j] then
			written[2 * j] = written[2 * j] .. packed_trace(placed_in[j], placed_state and placed_state[j])
		end
	end
	call('ZADD', own.timers, unpack(timers, 1, 2 * m))
	local stored = pcall('HSET', own.orders, unpack(written, 1, k))
	if stored ~= m and type(stored) == 'table' then
		for i = 2, 2 * m, 2 do
			call('ZREM', own.timers, timers[i])
		end
		error(stored)
	end
end

local function write_customers(own, args, n, created)
	local customer = own['customer:']
	for i = 1, n do
		if letters[i] == 'P' then
			local at = PLACE_ARGS + 4 * i - 3
			-- An order must not be lost because its customer's key has another type.
			pcall('ZADD', customer .. args[at + 1], created, args[at])
			if counts and is_counted(args, i) then
				local key = own['pending:'] .. args[at + 1]
				call('ZADD', key, args[1], args[at])
				call('PEXPIRE', key, PENDING_KEPT_MS)
			end
		end
	end
end

local function place(keys, args)
	local key, stream, batch = keys[1], open_stream(keys[1]), begin_batch()
	local own = stream.own
	if args[PLACE_ARGS] ~= flags then
		read_flags(args[PLACE_ARGS])
	end
	local n = flag_count
	if stream:is_full(events_max) then
		return redis.error_reply('OOM ' .. key .. ' has reached its hard length')
	end
	local before = stream.last
	local m, again = place_all(own, args, n, batch)
	if m > 0 then
		if #args > PLACE_ARGS + 4 * n then
			add_causes(args, n, letters, batch)
		end
		placed_by, placed_in, placed_state = batch.actors, batch.traceparents, batch.tracestates
		stream:publish(args[1], args[2], batch, m, write_placed, args)
		write_customers(own, args, n, stream.time_mark == '' and stream.ms_text or args[1])
	end
	local text = (n == 1 and letters[1] or concat(letters, '', 1, n)) .. ' ' .. before .. ' ' .. stream.last ..
		(stream.time_mark or '')
	if not again then
		return text -- a table costs more
	end
	local answer = { text }
	add_again(own, again, answer)
	return answer
end

-- FCALL order_find 1 <own stream> <now_ms> <flags> { <id> <placed> } …
-- For requests that order_place refused because storage is full: answers { letters, text, … }: B, C, D and E as
-- order_place does, '-' for orders that were not placed before. The flags are those of order_place.

local function find_placed(keys, args)
	local own, ids, letters, again = own_keys(keys[1]), {}, {}, {}
	for i = 3, #args, 2 do
		ids[#ids + 1] = args[i]
	end
	local known = read_known(own, ids, args[1])
	for i = 1, #ids do
		local letter, name = placed_before(known, ids[i], args[2 * i + 2], drops.is_asked(args[2], i))
		letters[i] = letter or '-'
		if name then
			again[#again + 1], again[#again + 2] = letter, name
		end
	end
	local answer = { concat(letters) }
	if #again > 0 then
		add_again(own, again, answer)
	end
	return answer
end

-- ---- move ----

-- FCALL order_move 1|2 <own stream> [<inventory's stream>] <now_ms> <time> <due> <letters> <wanted>[<extras>]
--       <id> … { <position> <expected version> <due> <data> <trace> <actor> } × extras <stream id> …
--   letters: the input of each operation; wanted, for each: 'w' the order, 'h' its history, '-' neither; one '-' if it is so for all;
--   due: when the timer of an order that waits for inventory runs out; of an extension '<until ms>+<longest hold ms>';
--   extras: how many operations have any, nothing if none has (a value is '' if absent). Then the entries to acknowledge: if an order is unknown none is acknowledged,
--   because that is a fault to look at.
-- Answers text or { text, order, … }. The text has a line '<size> <before> <last>', empty if no order moved; `size`: the bytes
-- of one that did, on average. Then a line for each operation: 'U' for an unknown order, 'G' if it may have been dropped, else
-- the outcome (M moved or asked again, S stays, F refused, V another version, L beyond the limits of a hold), the letter of the state,
-- <version> and, only for M, a space and the ms since the order was placed, then a space and the history if it
-- is wanted.
local MOVE_ARGS = 5
local GROUP = 'order' -- that reads inventory's stream

local WANTS_ORDER, WANTS_HISTORY = 119, 104 -- the bytes 'w', 'h'

-- The keys of the field `lines` in the events that ask for a release (an OrderRejected does, where inventory has lost the
-- refusal), and of the lines in an order's content.
local LINES_KEYS = { CANCELLED = '\18', EXPIRED = '\26', REJECTED = '\18' }
local CONTENT_LINES = 18

-- The order's lines as fields of another message. All fields of the content have a length.
local function lines_as(key, placed)
	local _, at = read_varint(placed, 2)
	local pieces = {}
	while at <= #placed do
		local field = byte(placed, at)
		local length, from = read_varint(placed, at + 1)
		if field == CONTENT_LINES then
			pieces[#pieces + 1] = key .. sub(placed, at + 1, from + length - 1)
		end
		at = from + length
	end
	return concat(pieces)
end

-- The data of an event: OrderPlaced for a repeated request; the caller's data; or the detail that is stored. A
-- release carries the lines where the order's stock may lie in other partitions: inventory releases it there even if it
-- has no record of the order.
local function content_of(own, rule, text, to, data)
	if rule.event == EVENTS.PLACED then
		return (contents_of(text, to))
	elseif rule.event == EVENTS.EXTENDED then
		return data
	elseif not rule.event.has_detail then
		return nil
	end
	local placed, rest = contents_of(text, to)
	local detail = data
	if not data or data == '' then
		detail = select(2, split_rest(rest))
	end
	if LINES_KEYS[rule.event.name] and has_partitions(own) then
		return detail .. lines_as(LINES_KEYS[rule.event.name], placed)
	end
	return detail
end

-- The bytes that follow the history of an order that moved.
local function rest_after(step, text, to, data, actor)
	local ends = data and data ~= '' and step.rule.event.has_detail
	local known = actor and actor ~= ''
	if not ends and not known then
		return sub(text, to)
	end
	local placed, rest = contents_of(text, to)
	if ends then
		rest = split_rest(rest) .. data
	end
	return '\n' .. #placed .. '\n' .. placed .. (known and packed_actor(step.version, actor) or '') .. rest
end

-- The step that extends a hold: the one of its head, with the hold that ends when it is to. If it ends then already, or
-- would last too long, or was extended too often: nil, and the answer. The history was read last.
local function extend(step, history, wanted)
	local age, reserved = match(history, ' ' .. EVENTS.RESERVED.word .. '%+(%-?%d+)%-%d+~?(%d*)')
	local ends, longest = match(wanted, '^(%d+)%+(%d+)$')
	if not age or not ends then
		return nil, 'U'
	end
	local hold = ends - (tonumber(reserved) or first_ms + age)
	if hold <= step.hold then
		return nil, 'S' .. step.rule.from .. step.was
	elseif hold > tonumber(longest) or step.was - 2 >= EXTENSIONS_MAX then
		return nil, 'L' .. step.rule.from .. step.was
	end
	local extended = {}
	for name, value in pairs(step) do
		extended[name] = value
	end
	extended.head = step.rule.state .. ' ' .. step.version .. ' ' .. format('%d', hold)
	extended.ends = ends
	return extended
end

-- When the timer of an order that moved runs out.
local function due_after(args, now, step, extra)
	if step.ends then
		return step.ends
	elseif step.rule.timer ~= 'HOLD' then
		return extra and args[extra + 2] ~= '' and args[extra + 2] or args[3]
	elseif step.due_from ~= now then
		step.due_from, step.due = now, format('%d', now + step.hold)
	end
	return step.due
end

-- `set`: due, id, due, id …; `removed`: ids; `sets` and `removes` are their lengths.
local function set_timers(key, set, sets, removed, removes)
	if sets > 0 then
		call('ZADD', key, unpack(set, 1, sets))
	end
	if removes > 0 then
		call('ZREM', key, unpack(removed, 1, removes))
	end
end

-- Of the current call; the tables are used again by the next: texts of orders and answers of operations; for each
-- order that moves its operation, its step, its history and where that ends; pairs for HSET and ZADD, ids for ZREM.
local texts, answers, moves, taken, histories, tos, set, removed = nil, {}, {}, {}, {}, {}, {}, {}
local extras -- positions in the arguments, by operation; nil: there are none
local unknown, bytes -- true if an order is unknown; of the orders that moved

-- Reads the positions of n operations' extras; returns the position behind them.
local function read_extras(args, n)
	local first = MOVE_ARGS + n + 1
	local behind = first + 6 * tonumber(match(args[5], '%d+$') or 0)
	extras = behind > first and {} or nil
	for at = first, behind - 1, 6 do
		extras[tonumber(args[at])] = at
	end
	return behind
end

-- Decides operation i. If its order moves returns the step, and notes it as number m; else it sets the answer.
local function decide(own, args, i, extra, m)
	local text = texts[i]
	local from, to, history
	if text then
		from, to, history = history_of(text)
	end
	local step = from and step_of(byte(args[4], i), sub(text, 1, from - 1))
	if not step and not text and call('EXISTS', own.dropped) == 1 then
		answers[i] = 'G'
	elseif not step then
		unknown, answers[i] = true, 'U'
	elseif extra and args[extra + 1] ~= '' and args[extra + 1] ~= step.was then
		answers[i] = 'V' .. step.rule.from .. step.was
	elseif not step.head then
		answers[i] = step.answer
	else
		if step.extends then
			step, answers[i] = extend(step, history, extra and args[extra + 2] or '')
			unknown = unknown or answers[i] == 'U'
			if not step then
				return nil
			end
		end
		moves[m], taken[m], histories[m], tos[m] = i, step, history, to
		return step
	end
end

-- Makes the texts of the m orders that move, whose events will be in the newest entry, and sets their timers. If the
-- timers are of another type it fails, and writes nothing.
local function write_moved(stream, m, args)
	local now, mark = tonumber(args[1]), stream.time_mark
	local ms = stream.ms_text == args[1] and now or tonumber(stream.ms_text)
	local entry, wants_history = '-' .. stream.n_text .. mark, args[5] ~= '-' and find(args[5], 'h', 1, true)
	local known, item, age, sets, removes = nil, nil, nil, 0, 0
	for k = 1, m do
		local i, step, history, to = moves[k], taken[k], histories[k], tos[k]
		local id, extra, text = args[MOVE_ARGS + i], extras and extras[i], texts[i]
		if history ~= known then
			known = history
			read_history(history)
			age = number_text(ms - first_ms)
			item = age .. entry
			if mark ~= '' or placed_ms ~= first_ms then -- the ids do not show the times
				age = number_text(now - placed_ms)
			end
		end
		if step.attempt and tonumber(step.attempt) > AGAIN_KEPT then
			history = gsub(history, ' ' .. AGAIN_WORD .. '%+[^ ]*$', '')
		end
		written[2 * k - 1], written[2 * k] = id, step.head .. history .. step.word .. item ..
			(extra and rest_after(step, text, to, args[extra + 3], args[extra + 5]) or sub(text, to))
		answers[i] = step.answer .. age
		if wants_history and byte(args[5], i) == WANTS_HISTORY then
			answers[i] = answers[i] .. history .. step.word .. item
		end
		local timer = step.rule.timer
		if timer == 'NONE' then
			removes = removes + 1
			removed[removes] = id
		elseif timer ~= 'KEEP' then
			set[2 * sets + 1], set[2 * sets + 2] = due_after(args, now, step, extra), id
			sets = sets + 1
		end
	end
	set_timers(stream.own.timers, set, 2 * sets, removed, removes)
end

-- Publishes the events of the operations `from` to `to` as one entry, and writes the orders. Each operation must
-- be for another order. Returns how many moved.
local function move_some(stream, args, from, to)
	local batch, m = begin_batch(), 0
	local types, names, own = batch.types, batch.names, stream.own
	for i = from, to do
		local extra = extras and extras[i]
		local step = decide(own, args, i, extra, m + 1)
		if step then
			m = m + 1
			types[m], names[m] = step.type, args[MOVE_ARGS + i] .. step.name
			if extra or step.carries or step.attempt then
				add_details(batch, m, step.carries and
					content_of(own, step.rule, texts[i], tos[m], extra and args[extra + 3]),
					step.attempt, extra and args[extra + 4], extra and args[extra + 5])
			end
		end
	end
	if m == 0 then
		return 0
	end
	stream:publish(args[1], args[2], batch, m, write_moved, args)
	call('HSET', own.orders, unpack(written, 1, 2 * m))
	for k = 1, m do
		local text = written[2 * k]
		texts[moves[k]], bytes = text, bytes + #text
	end
	return m
end

local function move(keys, args)
	local n = #args[4]
	local acks = MOVE_ARGS + n + 1
	extras, unknown, bytes = nil, false, 0
	if args[5] ~= '-' then
		acks = read_extras(args, n)
	end
	local stream = open_stream(keys[1])
	local before, from, moved = stream.last, 1, 0
	texts = call('HMGET', stream.own.orders, unpack(args, MOVE_ARGS + 1, MOVE_ARGS + n))
	if n > 1 then
		local last = {}
		for i = 1, n do
			local id = args[MOVE_ARGS + i]
			local at = last[id]
			if at then -- it goes on from what the operation before it has made of the order
				if at >= from then
					moved = moved + move_some(stream, args, from, i - 1)
					from = i
				end
				texts[i] = texts[at]
			end
			last[id] = i
		end
	end
	moved = moved + move_some(stream, args, from, n)
	local text = n == 1 and answers[1] or concat(answers, '\n', 1, n)
	if #args >= acks and not unknown then
		acknowledge(keys, GROUP, args, acks)
	end
	if moved > 0 then
		text = number_text((bytes - bytes % moved) / moved) .. ' ' .. before .. ' ' .. stream.last .. '\n' .. text
	else
		text = '\n' .. text
	end
	if args[5] == '-' or not find(args[5], 'w', 1, true) then
		return text -- a table costs more
	end
	local answer = { text }
	for i = 1, n do
		if byte(args[5], i) == WANTS_ORDER and answers[i] ~= 'U' and answers[i] ~= 'G' then
			answer[#answer + 1] = texts[i]
		end
	end
	return answer
end

-- ---- drop ----

-- FCALL order_drop 1|2 <own stream> [<archive's stream>] <now_ms> <time> <kept_ms> <n> { <id> <version> <made_ms> } × n <stream id> …
-- The archive has n orders up to these versions. Those that the rules drop, that still have the version, and that nothing has
-- happened to for <kept_ms>, are removed, each with an event. One that is not there was dropped, or lost: its event is published
-- again, for whoever has missed it. made_ms: when the id was made, if it was made for the order
-- and is not that of a request, as it says by itself; '': it is that of a request. Then the entries to acknowledge.
-- Answers as order_place does: D dropped, '-' there is no such order, or it stays.
-- When the last event of an order was published, by the ids of the stream: they never go back, so no event of it says a
-- later time. The history was read last.
function drops.changed_ms(history)
	return first_ms + (tonumber(match(history, '%+(%-?%d+)%-%d+~?%d*$')) or 0)
end

function drops.customer_of(placed)
	local _, at = read_varint(placed, 2)
	local length, from = read_varint(placed, at + 1)
	return sub(placed, from, from + length - 1)
end

-- The step that drops an order; nil: it stays.
function drops.step(text, version, now_ms, kept_ms)
	local from, _, history
	if text then
		from, _, history = history_of(text)
	end
	local step = from and step_of(drops.archived, sub(text, 1, from - 1))
	if step and step.rule.verdict == 'D' and step.was == version and now_ms - drops.changed_ms(history) >= kept_ms + 0 then
		return step
	end
end

function drops.drop(keys, args)
	local own, n, now_ms = own_keys(keys[1]), tonumber(args[4]), args[1]
	local stream, batch = open_stream(keys[1]), begin_batch()
	local before, ids, dropped, customers, places, m, newest_ms = stream.last, {}, {}, {}, { own.dropped_ids }, 0, 0
	for i = 1, n do
		ids[i] = args[drops.args + 3 * i - 2]
	end
	local orders = read_orders(own.orders, ids, 1, n)
	for i, id in ipairs(ids) do
		local at = drops.args + 3 * i
		local text = orders[id]
		local step = drops.step(text, args[at - 1], now_ms, args[3])
		letters[i] = '-'
		if not text and args[at] == '' then
			drops.add_places(places, own, id, 'SET', 'u1', '1')
		elseif step then
			letters[i], dropped[#dropped + 1], orders[id] = 'D', id, false
			local _, to = history_of(text)
			customers[#dropped] = drops.customer_of((contents_of(text, to)))
			newest_ms = math.max(newest_ms, placed_ms)
			if args[at] == '' or math.abs(args[at] - placed_ms) > drops.made_ms then
				drops.add_places(places, own, id, 'SET', 'u1', '1')
			end
		end
		if step or not text then
			m = m + 1
			batch.types[m] = EVENTS.DROPPED.type
			batch.names[m] = id .. '/' .. format('%.0f', args[at - 1] + 1)
		end
	end
	if #places > 1 then -- first, since it may fail, and does no harm alone
		call('BITFIELD', unpack(places))
		drops.noted[own] = true
	end
	if m > 0 then
		stream:publish(args[1], args[2], batch, m)
	end
	if #dropped > 0 then
		call('HDEL', own.orders, unpack(dropped))
		if newest_ms > (call('GET', own.dropped) or 0) + 0 then
			call('SET', own.dropped, format('%d', newest_ms))
		end
	end
	for i, id in ipairs(dropped) do
		pcall('ZREM', own['customer:'] .. customers[i], id)
	end
	if #args > drops.args + 3 * n then
		acknowledge(keys, GROUP, args, drops.args + 3 * n + 1)
	end
	return concat(letters, '', 1, n) .. ' ' .. before .. ' ' .. stream.last
end

-- ---- list ----

-- FCALL order_list 1 <own stream> <customer> <count> <before_ms> <before_id> <bytes>
-- A customer's orders, newest first, those of a millisecond by id, after <before_id>; before_id '': from the newest.
-- <before_id> need not exist any more: then the list goes on where it would be. At most <count>, and at most <bytes>,
-- but at least one.
-- Answers { more (0 or 1), when the newest order that was dropped had been placed, id, order, id, order, … }, '0' if none
-- was; false for an order that does not exist.

local ORDER_BYTES = 512 -- the size of an order in the answer, beside its stored text

local function list(keys, args)
	local prefix = prefix_of(keys[1])
	local key = prefix .. 'customer:' .. args[1]
	local count = tonumber(args[2])
	local ids
	local rank = args[4] ~= '' and call('ZREVRANK', key, args[4])
	if args[4] == '' then
		ids = call('ZREVRANGE', key, 0, count)
	elseif rank then
		ids = call('ZREVRANGE', key, rank + 1, rank + 1 + count)
	else
		ids = {}
		for _, id in ipairs(call('ZREVRANGEBYSCORE', key, args[3], args[3])) do
			if id < args[4] then
				ids[#ids + 1] = id
			end
		end
		for _, id in ipairs(call('ZREVRANGEBYSCORE', key, '(' .. args[3], '-inf', 'LIMIT', 0, count + 1)) do
			ids[#ids + 1] = id
		end
	end
	local answer, bytes = { 0, call('GET', prefix .. 'dropped') or '0' }, 0
	local orders = #ids > 0 and read_orders(prefix .. 'orders', ids, 1, math.min(#ids, count))
	for i, id in ipairs(ids) do
		local order = i <= count and orders[id] or false
		if order then
			bytes = bytes + ORDER_BYTES + #order
		end
		if i > count or i > 1 and bytes > tonumber(args[5]) then
			answer[1] = 1
			break
		end
		answer[#answer + 1] = id
		answer[#answer + 1] = order
	end
	return answer
end

-- ---- timers ----

-- FCALL order_due 1 <own stream> <now_ms> <lease_until_ms> <count> <group>
-- Answers orders whose timer has run out, and leases them. Removes the timers of orders that are settled
-- or do not exist; those of damaged orders are leased. `queued`: the last request is in the stream and
-- <group> has not read it yet.
-- Answers { number of timers, id, queued (0 or 1), order, id, … }.

local function last_request_id(history)
	local first_ms, first_n = match(history, '^ placed@(%d+)%-(%d+)')
	local age, n = match(history, '%+(%-?%d+)%-(%d+)~?%d*$')
	if age then
		return format('%.0f', (first_ms or 0) + age) .. '-' .. n
	end
	return first_ms and first_ms .. '-' .. first_n
end

local function delivered_to(key, name)
	local groups = pcall('XINFO', 'GROUPS', key)
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

local function is_queued(key, history, delivered)
	local id = last_request_id(history)
	return delivered ~= nil and id ~= nil and id_less(delivered, id) and
		#pcall('XRANGE', key, id, id) > 0 -- a damaged history may hold what is no id
end

-- The version of an order that is not settled, and its history; false: it is settled; nil: it is damaged. That does not
-- depend on the input.
local function open_order(text)
	local from, _, history = history_of(text)
	local state, version
	if from then
		state, version = match(text, '^(%S+) (%d+) %d+')
	end
	if state and RULES[state] then
		return OPEN_STATES[state] and version or false, history
	end
end

local function due(keys, args)
	local key = keys[1]
	local own = own_keys(key)
	local timers = own.timers
	local ids = call('ZRANGEBYSCORE', timers, '-inf', args[1], 'LIMIT', 0, args[3])
	local answer = { call('ZCARD', timers) }
	if #ids == 0 then
		return answer
	end
	local delivered = delivered_to(key, args[4])
	local orders, sets, removes = read_orders(own.orders, ids, 1, #ids), 0, 0
	local queued = {} -- by history: orders of one entry have the same, and reading the entry costs as much as it holds
	for _, id in ipairs(ids) do
		local text = orders[id]
		local version, history = false, nil
		if text then
			version, history = open_order(text)
		end
		if version then
			if queued[history] == nil then
				queued[history] = is_queued(key, history, delivered) and 1 or 0
			end
			answer[#answer + 1] = id
			answer[#answer + 1] = queued[history]
			answer[#answer + 1] = text
		end
		if version == false then
			removes = removes + 1
			removed[removes] = id
		else
			set[sets + 1], set[sets + 2] = args[2], id
			sets = sets + 2
		end
	end
	set_timers(timers, set, sets, removed, removes)
	return answer
end

-- FCALL order_timer 1 <own stream> { <id> <version> <due> } …
-- Sets the timers of those orders that are still at this version and not settled. Answers how many that are.

local function timer(keys, args)
	local own, ids, sets = own_keys(keys[1]), {}, 0
	for at = 1, #args, 3 do
		ids[#ids + 1] = args[at]
	end
	local orders = read_orders(own.orders, ids, 1, #ids)
	for at = 1, #args, 3 do
		local id = args[at]
		local version = orders[id] and open_order(orders[id])
		if version and version == args[at + 1] then
			set[sets + 1], set[sets + 2] = args[at + 2], id
			sets = sets + 2
		end
	end
	set_timers(own.timers, set, sets, removed, 0)
	return sets / 2
end

outcomes.timer = function(answer, args)
	return answer > 0 and 'timer set to ' .. args[3] or nil
end

-- Called by operators (operate in events.lua): drop_timer 1 <own stream> <id> <text>
-- Removes the timer of an order, or of an id without one, as long as the order is this text, or '' for none. Answers 1, else 0.
callbacks.drop_timer = function(keys, args)
	local own = own_keys(keys[1])
	return (call('HGET', own.orders, args[1]) or '') == args[2] and call('ZREM', own.timers, args[1]) or 0
end

outcomes.drop_timer = function(answer)
	return answer == 1 and 'timer removed' or nil
end

-- ---- orders of earlier versions ----

-- An order was a hash o:<order id>: status, version, hold, history, placed; settled, attempt and detail if it
-- had them. Returns its text; nil: it is damaged.
local function text_of(order)
	if not (order.status and order.version and order.hold and order.history and order.placed) then
		return nil
	end
	local open = order.settled ~= '1' and RULES[order.status .. '~'] and '~' or ''
	return order.status .. open .. ' ' .. order.version .. ' ' .. order.hold ..
		(order.attempt and ' attempt=' .. order.attempt or '') .. ' ' .. order.history .. '\n' ..
		#order.placed .. '\n' .. order.placed .. (order.detail or '')
end

local function rewrite_page(prefix, cursor)
	local page = call('SCAN', cursor, 'MATCH', prefix .. 'o:*', 'COUNT', 1000)
	local rewritten, damaged = 0, 0
	for _, key in ipairs(page[2]) do
		local order = pcall('HGETALL', key)
		local text = not order.err and text_of(named(order))
		-- A damaged order stays one, which the audit reports; its former key is kept.
		call('HSET', prefix .. 'orders', sub(key, #prefix + 3), text or 'damaged: ' .. key)
		if text then
			call('DEL', key)
			rewritten = rewritten + 1
		else
			damaged = damaged + 1
		end
	end
	return page[1], rewritten, damaged
end

former = {
	is_there = function(prefix)
		return call('EXISTS', prefix .. 'orders') == 0 and open_stream(prefix .. 'events').last ~= '0-0'
	end,
	page = rewrite_page,
}

register('place', place)
register('find', find_placed, 'no-writes', 'allow-oom')
register('move', move, 'allow-oom')
register('drop', drops.drop, 'allow-oom')
register('list', list, 'no-writes', 'allow-oom')
register('due', due, 'allow-oom')
register('timer', timer, 'allow-oom')
