-- functions.lua - the atomic steps of the inventory service. The library begins with
-- runtime/events/events.lua; then come the rules of stock.c and parts.c and the fields of messages as
-- tables.c writes them, then this file.
--
-- Keys, all with the prefix of KEYS[1] ('inventory:{0}:events' gives 'inventory:{0}:'):
--
--   stock    hash: SKU → '<available> <reserved> <committed> <received> <version>'; behind it ' <threshold>' if there is one,
--            below which available is low
--   skus     sorted set: every SKU, all with score 0: for listing in byte order
--   r        hash: order id → '<STATE> <version> <unix ms of the last change> <lines>', where lines
--            are 'sku=quantity sku=quantity …'; a line that was short is 'sku=quantity/available',
--            with the available quantity 00 if there was no such SKU (builds that do not tell it apart read 0).
--            Of a line some of which came back it is 'sku=quantity-returned'; when RETURNED, the order's version whose
--            request said so stands before the lines: '<order version> <lines>'.
--            Of a split order, whose lines lie in several partitions or in another one than its record,
--            they are 'sku=quantity@q' and 'sku=quantity/available@q': the stock is in partition q
--   parts    hash: order id → '<STATE> <p> <unix ms of the last change> <lines>': what is held here for a
--            split order whose record is in partition p; 'sku=quantity-returned' as there, though it stays COMMITTED
--   dropped  hash: SKU → how many were sold in reservations that were dropped, since their orders were; without what
--            came back. So committed is this and what the reservations that are there add up to
--   dropped_until   string: reservations whose orders were asked for up to this unix ms, and that are not there, were
--            dropped; of orders that are not split
--   dropped_until_split   string: the same of split ones; of their parts in generations
--   generation   string: a number that is raised whenever this partition is taken over by another master;
--            0 at first
--   generations  hash: p → the highest generation of partition p that is known here; and dp → the unix ms up to which parts
--            of partition p's orders were dropped here
--   alive        hash: a mark (master_mark) → the unix ms at which that master last said that it is alive; begun → when the
--            one of now first did; edge → since when the next two are complete; cluster → 1 if it is a cluster's: without one
--            they lack what was reserved in one step (reserve)
--   recent:r      sorted set: by unix ms, '<unix ms>;r <order id> … ;d <order id>@q@q …': records of split orders that one call
--            changed, and that it dropped, with the partitions of their parts; for reconciliations, which look at what changed
--            last. Two minutes of them are kept
--   recent:parts  sorted set: by unix ms, '<unix ms>;<p> <order id> … ;<p> <order id> …': parts that one call changed, by the
--            partition of their orders
--   reconciliation   hash: what the last reconciliation of this partition saw and whether one is going on
--            (in_step.c): marks, those of the masters of all partitions; digest, a hash of them; by and until,
--            who reconciles now, and the unix ms at which others may take over; under, the marks that this one
--            sees; sweep, '<unix ms> <unix ms>': from when on what nobody asked for again is released, and since when
--            it can have been changed; ended and since, when the last one ended that has mended something, and since when it looked at changes
--   adjust:<sku>:<request id>   string with an expiry: an adjustment and its result,
--            '<delta> <available> <reserved> <committed> <received> <version> <reason>'
--   events   stream: answers to requests, adjustments, and what is low
--
-- All counters are in one hash and all reservations in another, so that a batch of any size reads
-- and writes each of them once, and publishes one entry: Redis CPU is the most expensive part of an order.
--
-- Every function decides first, without writing, and writes last: an error cannot leave half a
-- step, and each of them is safe to repeat. An item whose records are damaged gets its own error, is not acknowledged and
-- changes nothing; the others are not affected.

local STOCK, SKUS, ADJUSTMENTS = 'stock', 'skus', 'adjust:'
local GROUP = 'inventory'
local NEXT = { ['0'] = '1', ['1'] = '2', ['2'] = '3' } -- versions, as text
-- A counter: five numbers, and the text they were read from; false once they have changed. Then the two that few steps change, and
-- their part of the text. If it has a `threshold`: `low`, whether it was below it then.
local AVAILABLE, RESERVED, COMMITTED, RECEIVED, VERSION, TEXT = 1, 2, 3, 4, 5, 6
-- The most values for one command: Lua's stack holds 8000.
local CHUNK = 2000

-- ---- protobuf: messages whose content is known only here ----

-- A number field; proto3 omits zeros.
local function number_field(field, n)
	if n == 0 then
		return ''
	elseif field.zigzag then
		n = n > 0 and 2 * n or -2 * n - 1
	end
	return field.key .. varint(n)
end

-- A string or message field.
local function bytes_field(field, bytes)
	return field.key .. varint(#bytes) .. bytes
end

-- An InventoryUnavailable, from a reservation's lines.
local function pack_shortages(lines)
	local shortage, shortages = FIELDS.ReservationShortage, {}
	for sku, requested, available in string.gmatch(lines, '([^ =]+)=(%d+)/(%d+)') do
		shortages[#shortages + 1] = bytes_field(FIELDS.InventoryUnavailable.shortages,
			bytes_field(shortage.sku, sku) ..
			number_field(shortage.requested, requested + 0) ..
			number_field(shortage.available, available + 0) ..
			number_field(shortage.unknown, available == '00' and 1 or 0))
	end
	return concat(shortages)
end

-- A field that holds a Stock.
local function stock_field(field, sku, counter)
	local stock = FIELDS.Stock
	return bytes_field(field, bytes_field(stock.sku, sku) ..
		number_field(stock.available, counter[AVAILABLE]) ..
		number_field(stock.reserved, counter[RESERVED]) ..
		number_field(stock.committed, counter[COMMITTED]) ..
		number_field(stock.received, counter[RECEIVED]) ..
		number_field(stock.version, counter[VERSION]) ..
		number_field(stock.low_stock_threshold, counter.threshold or 0))
end

-- A StockAdjusted.
local function pack_adjusted(sku, delta, reason, counter)
	local adjusted = FIELDS.StockAdjusted
	return number_field(adjusted.delta, delta) ..
		(reason == '' and '' or bytes_field(adjusted.reason, reason)) ..
		stock_field(adjusted.stock, sku, counter)
end

-- ---- counters ----

local COUNTER_MAX = 9007199254740991 -- exact in a double

local function counter_of(text)
	local a, r, middle, c, received, version = match(text, '^(%d+) (%d+)( (%d+) (%d+) )(%d+)$')
	local threshold
	if not a then
		a, r, middle, c, received, version, threshold = match(text,
			'^(%d+) (%d+)( (%d+) (%d+) )(%d+) ([1-9]%d*)$')
	end
	if not a then
		return nil
	end
	a, r, c, received, version = a + 0, r + 0, c + 0, received + 0, version + 0
	if a > COUNTER_MAX or r > COUNTER_MAX or c > COUNTER_MAX or received > COUNTER_MAX or
			version >= COUNTER_MAX or threshold and threshold + 0 > COUNTER_MAX then
		return nil
	end
	local counter = { a, r, c, received, version, text, c, received, middle }
	if threshold then
		counter.threshold = threshold + 0
		counter.low = a < counter.threshold
	end
	return counter
end

-- The five numbers. %d, not '..', which writes large numbers as 1e+14; and each costs as much as making four other strings.
local function counter_text(counter)
	local committed, received = counter[COMMITTED], counter[RECEIVED]
	if counter[7] ~= committed or counter[8] ~= received then
		counter[7], counter[8], counter[9] = committed, received, format(' %d %d ', committed, received)
	end
	return number_text(counter[AVAILABLE]) .. ' ' .. number_text(counter[RESERVED]) .. counter[9] ..
		number_text(counter[VERSION])
end

-- The text, and behind it the threshold, if the counter has one.
local function with_threshold(text, counter)
	if counter and counter ~= 'damaged' and counter.threshold then
		return format('%s %d', text, counter.threshold)
	end
	return text
end

-- Counters of earlier calls, by SKU, so that an unchanged text is not parsed again.
local COUNTERS_MAX = 4096
local counters_known, counters_count = {}, 0
local function parse_counter(sku, text)
	local counter = counter_of(text)
	if not counter then
		return 'damaged'
	elseif counters_count >= COUNTERS_MAX then
		counters_known, counters_count = {}, 0
	end
	counters_count = counters_count + (counters_known[sku] and 0 or 1)
	counters_known[sku] = counter
	return counter
end

-- Reads the counters of the first n of `skus` (a list) into `counters`: a table, false for an unknown SKU,
-- or the text 'damaged'.
local function read_counters(key, skus, n, counters)
	for from = 1, n, CHUNK do
		local to = from + CHUNK > n and n or from + CHUNK - 1
		local texts = call('HMGET', key, unpack(skus, from, to))
		for i = from, to do
			local sku, text = skus[i], texts[i - from + 1]
			local counter = text and counters_known[sku]
			if text and (not counter or counter[TEXT] ~= text) then
				counter = parse_counter(sku, text)
			end
			counters[sku] = counter
		end
	end
end

-- Writes a flat list of n fields and values to a hash.
local function write_pairs(key, pairs, n)
	if n == 2 then
		call('HSET', key, pairs[1], pairs[2])
		return
	end
	for from = 1, n, CHUNK do
		call('HSET', key, unpack(pairs, from, math.min(from + CHUNK - 1, n)))
	end
end

-- Puts the counters that changed since they were read into `counter_pairs`, to be written. One that this call leaves below its
-- threshold, and found at or above it, is told: behind the m events of the batch, with a version of its own, which is
-- the event's. Returns how many events and how many values for HSET there are.
local counter_pairs = {} -- used again by the next call
local function changed_counters(skus, count, counters, events, m)
	local pairs, n = counter_pairs, 0
	for i = 1, count do
		local sku = skus[i]
		local counter = counters[sku]
		if counter and counter ~= 'damaged' and not counter[TEXT] then
			local threshold = counter.threshold
			if threshold then
				local low = counter[AVAILABLE] < threshold
				if low and not counter.low then
					m, counter[VERSION] = m + 1, counter[VERSION] + 1
					events.types[m] = LOW
					events.names[m] = sku .. '/' .. format('%d', counter[VERSION])
					add_details(events, m, stock_field(FIELDS.StockLow.stock, sku, counter))
				end
				counter.low = low
			end
			local text = counter_text(counter)
			if threshold then
				text = with_threshold(text, counter)
			end
			counter[TEXT], pairs[n + 1], pairs[n + 2] = text, sku, text
			n = n + 2
		end
	end
	return m, n
end

-- ---- requests of orders ----

local IDS = 3 -- the order id of request i is args[IDS + i]
-- The bytes 'r', 'l', 'd' and '?' (98 is 'b', a return): a library has no 'string' yet while it is loaded.
local RESERVE, RELEASE, DROP, ASK = 114, 108, 100, 63
-- Lines as a flat list { sku, quantity, … }, cached, since many orders have the same lines. `damaged` is set if a
-- SKU occurs twice. `left`, if some of it came back: the same of what did not. For a split order the list is empty and `split` is set: no counter here is concerned.
local LINES_MAX = 4096
local lines_known, lines_count = {}, 0
local function lines_of(text)
	local list, n, seen = { split = find(text, '@', 1, true) }, 0, {}
	for sku, quantity, back in string.gmatch(list.split and '' or text, '([^ =]+)=(%d+)%-?(%d*)') do
		list.damaged = list.damaged or seen[sku]
		list.back = list.back or back ~= ''
		seen[sku] = true
		list[n + 1], list[n + 2] = sku, quantity + 0
		n = n + 2
	end
	if list.back then
		list.left = {}
		for sku, quantity, back in string.gmatch(text, '([^ =]+)=(%d+)%-?(%d*)') do
			local left = quantity - (tonumber(back) or 0)
			if left > 0 then
				list.left[#list.left + 1], list.left[#list.left + 2] = sku, left
			end
		end
	end
	if lines_count >= LINES_MAX then
		lines_known, lines_count = {}, 0
	end
	lines_known[text], lines_count = list, lines_count + 1
	return list
end

-- The lines; those that are short with the quantity that was available, or 00.
local function shortage_text(counters, list)
	local texts = {}
	for i = 1, #list, 2 do
		local counter = counters[list[i]]
		local text = format('%s=%d', list[i], list[i + 1])
		if not counter then
			text = text .. '/' .. '00'
		elseif counter[AVAILABLE] < list[i + 1] then
			text = text .. format('/%d', counter[AVAILABLE])
		end
		texts[#texts + 1] = text
	end
	return concat(texts, ' ')
end

-- Moves every line's quantity from one counter to another. Returns true; or, having changed nothing, false
-- if a counter has less or does not exist, nil if a counter is damaged.
local function shift(counters, list, from, to)
	local enough = true
	for i = 1, #list, 2 do
		local counter = counters[list[i]]
		if counter == 'damaged' then
			return nil
		end
		enough = enough and counter and counter[from] >= list[i + 1]
	end
	if not enough then
		return false
	end
	for i = 1, #list, 2 do
		local counter, quantity = counters[list[i]], list[i + 1]
		counter[from] = counter[from] - quantity
		counter[to] = counter[to] + quantity
		counter[VERSION], counter[TEXT] = counter[VERSION] + 1, false
	end
	return true
end

-- Notes in lines that so many came back in all as `wanted` says: 'sku=returned …', or if it is a record's lines 'sku=quantity-returned …'.
-- Less than is noted changes nothing. Returns the lines, and what comes back now as a flat list { sku, quantity, … }; nil:
-- more would come back than was sold.
local function note_returned(text, wanted, of_record)
	local wants, more, missing = {}, {}, 0
	for sku, first, second in string.gmatch(wanted, '([^ =]+)=(%d+)%-?(%d*)') do
		wants[sku] = tonumber(of_record and second or first) or 0
		missing = missing + 1
	end
	local made = gsub(text, '([^ =]+)=(%d+)%-?(%d*)', function(sku, quantity, before)
		local wants_back = wants[sku]
		before = tonumber(before) or 0
		if not wants_back or wants_back > quantity + 0 then
			return nil
		end
		missing = missing - 1
		if wants_back <= before then
			return nil
		end
		more[#more + 1], more[#more + 2] = sku, wants_back - before
		return format('%s=%d-%d', sku, quantity, wants_back)
	end)
	if missing > 0 then
		return nil
	end
	return made, more
end

-- The same for a record, whose request is '<order version> sku=returned …'.
local function note_record_returned(text, wanted)
	local known, lines = match(text, '^(%d+) (.*)$')
	local version, returned = match(wanted, '^(%d+) (.*)$')
	local made, more = note_returned(lines or text, returned or '')
	if not made then
		return nil
	end
	return format('%d ', math.max(known or 0, version or 0)) .. made, more
end

-- Of the current call, used again by the next: for each request the byte of its letter, the record that was read,
-- its lines, and the type, version and content of its answer if it gets one; pairs for HSET; SKUs and their counters.
local records
local requests, lines, answered, versions, contents, changed = {}, {}, {}, {}, {}, {}
local needed, needed_count, counters = {}, 0, {}
-- The records that this call has made, by order, which replace those that were read; nil for a single request.
local latest

-- What the current call drops, and what it knows of orders that were dropped. (One table: a library may have 200 locals.)
--   removed   the ids of records or parts; used again by the next call
--   sold      by SKU how many were sold in them; nil: nothing
--   asked     of each request with extras, and of conclusions without a record, when the order asked, or ''
--   key       dropped_until or dropped_until_split: orders that are not there, and asked up to then, were dropped
--   until_ms  its value; false: it was not read yet
--   text      the same as a text, '' for none, of conclusions
--   to        the value that it gets
--   of_both   so does dropped_until_split: it is not known whether an order without a record was split
local drops = { removed = {}, asked = {} }

-- The end of an action on a part that was dropped, by its letter: h c f; C B L.
drops.ends = { [104] = 'L', [99] = 'C', [102] = 'L', [67] = 'C', [66] = 'C', [76] = 'L' }

-- Adds what was sold in a reservation, or a part, that is dropped in this state.
function drops.add(state, list)
	local left = (state == 'C' or state == 'B') and (list.left or list) or {}
	local sold = drops.sold or {}
	drops.sold = sold
	for i = 1, #left, 2 do
		sold[left[i]] = (sold[left[i]] or 0) + left[i + 1]
	end
end

function drops.write(own)
	for sku, count in pairs(drops.sold or {}) do
		call('HINCRBY', own.dropped, sku, format('%d', count))
	end
end

function drops.raise(key)
	if drops.to > tonumber(call('GET', key) or -1) then
		call('SET', key, format('%d', drops.to))
	end
end

-- Whether the order of request i, which is not there, was dropped: the request is too old to be of another.
function drops.was(i)
	local asked = drops.asked[i]
	if not asked or asked == '' then
		return false
	elseif drops.until_ms == false then
		drops.until_ms = tonumber(call('GET', drops.key) or -1)
	end
	local until_ms = drops.to > drops.until_ms and drops.to or drops.until_ms
	return until_ms > 0 and asked + 0 <= until_ms -- making a number of a time costs as much as anything here
end

-- Applies a rule's effect to the counters. Returns true; or true, the rule to follow and the lines
-- to keep, if a reserve is refused or something comes back; or false and the error; or false, if the order is split.
local function take_effect(rule, text, wanted)
	local effect = rule.effect
	if effect == 'K' then
		return not find(text, '@', 1, true)
	end
	local list = lines_known[text] or lines_of(text)
	if list.split then
		return false
	elseif list.damaged then
		return false, 'the reservation is damaged'
	elseif effect == 'T' then
		local reserved = shift(counters, list, AVAILABLE, RESERVED)
		if reserved then
			return true
		elseif reserved == false then
			return true, REFUSED, shortage_text(counters, list)
		end
	elseif effect == 'D' then
		drops.add(sub(rule.ends, 1, 1), list)
		return true
	elseif effect == 'R' then
		local made, more = note_record_returned(text, wanted or '')
		if not made then
			return false, 'more comes back than was sold'
		elseif shift(counters, more, COMMITTED, AVAILABLE) then
			return true, rule, made
		end
	elseif shift(counters, list, RESERVED, effect == 'M' and COMMITTED or AVAILABLE) then
		return true
	end
	return false, 'the counters of stock are damaged, or less is reserved or sold than the reservation says'
end

-- Follows a rule: notes the answer of request i. Returns the letters of its end and, if the record changes, nil and
-- the new record. `grows`: its lines have changed.
local function follow(i, rule, state, version, text, now_ms, grows)
	answered[i], versions[i], contents[i] = rule.type, version, nil
	if rule.type == REFUSED.type then
		contents[i] = pack_shortages(text)
	elseif rule.type == RETURNED then
		contents[i] = number_field(FIELDS.InventoryReturned.order_version, (match(text, '^%d+') or 0) + 0)
	end
	if rule.to == state and not grows then
		return rule.ends
	elseif rule.to == 'N' then
		return rule.ends, nil, ''
	end
	version = NEXT[version] or format('%d', version + 1)
	versions[i] = version
	return rule.ends, nil, rule.word .. ' ' .. version .. ' ' .. now_ms .. ' ' .. (text or '')
end

-- What is stored for the order of request i: the letter of its state, its version, its lines, and all of it. If there
-- is nothing: 'N', '0', and the lines that were given. No letter: it is damaged.
local function stored(i, order_id)
	local record, text = latest and latest[order_id] or records[i], lines[i]
	local state, version = 'N', '0'
	if record == '' then
		record = false -- dropped by this call
	end
	if record then
		local word
		word, version, text = match(record, '^(%u+) (%d+) %d+ (.*)$')
		state = word and #version < 15 and STATE_LETTERS[word]
	end
	return state, version, text, record
end

-- Decides request i; changes counters in memory only. Returns what follow returns; or nil and the error; or, if it
-- only asks for the record or the order is split, letters that say so and the record, '' if there is none.
local function decide(i, order_id, now_ms)
	local state, version, text, record = stored(i, order_id)
	local rule = state and RULES[state][requests[i]]
	if not rule then
		if state and requests[i] == ASK then
			return state .. state .. '?', record or call('GET', drops.key .. '_split') or ''
		end
		return nil, 'the reservation is damaged'
	elseif state == 'N' and drops.asked[i] and drops.was(i) then
		return 'NN-'
	end
	local good, instead, instead_lines = take_effect(rule, text or '', lines[i])
	local grows = false
	if not good then
		if instead then
			return nil, instead
		end
		return state .. state .. '?', record
	elseif instead then
		grows = text ~= instead_lines
		rule, text = instead, instead_lines
	end
	return follow(i, rule, state, version, text, now_ms, grows)
end

-- Reads the counters that the requests may need: for new reserves, and for lines already reserved.
local function read_needed_counters(key, n)
	for i = 1, needed_count do
		counters[needed[i]] = nil
	end
	needed_count = 0
	for i = 1, n do
		local text = lines[i]
		if requests[i] == DROP and not find(records[i] or '', '^RESERVED ') then
			text = nil -- no counter changes
		elseif records[i] then
			text = match(records[i], '^%u+ %d+ %d+ (.*)$')
		end
		local list = text and (lines_known[text] or lines_of(text))
		for j = 1, list and #list or 0, 2 do
			local sku = list[j]
			if counters[sku] == nil then
				needed_count = needed_count + 1
				counters[sku], needed[needed_count] = false, sku
			end
		end
	end
	read_counters(key, needed, needed_count, counters)
end

-- How many letters there are, in front of the number of extras, if there are any.
local function request_count(letters)
	local n = #letters
	while byte(letters, n) <= 57 do -- '9'
		n = n - 1
	end
	return n
end

-- Reads n requests from the arguments, and their records from Redis. Returns the position of the extras.
local function read_requests(own, args, n)
	records = call('HMGET', own.r, unpack(args, IDS + 1, IDS + n))
	local at, letters = IDS + n + 1, args[1]
	for i = 1, n do
		local letter, text = byte(letters, i), nil
		if letter == RESERVE or letter == 98 then
			text = args[at]
			at = at + 1
		end
		requests[i], lines[i] = letter, text
	end
	return at
end

-- The places of the extras in the arguments, by request.
local function extras_of(args, at, acks)
	local extras = {}
	for extra = at, acks - 1, 4 do
		extras[tonumber(args[extra])] = extra
	end
	return extras
end

-- Decides n requests: what is published goes into the batch, records that change into `changed`. Returns the text of
-- the answer; how many events, values for HSET, and records to remove there are; and what follows the text, if anything: the error
-- of each request that failed, the record of each that was not served.
local function decide_all(args, n, extras, events, decide, split)
	local types, names, now_ms, asked = events.types, events.names, args[2], drops.asked
	local ends, m, c, r, rest = '', 0, 0, 0, nil
	latest = n > 1 and {} or nil
	for i = 1, n do
		local order_id, extra = args[IDS + i], extras and extras[i]
		answered[i], asked[i] = nil, split and asked[i] or extra and args[extra + 3]
		local done, why, made = decide(i, order_id, now_ms)
		ends = ends .. (done or '!!!')
		if why then
			rest = rest or {}
			rest[#rest + 1] = done and why or order_id .. ': ' .. why
		elseif answered[i] then
			m = m + 1
			types[m], names[m] = answered[i], order_id .. '/' .. versions[i]
			if extra or contents[i] then
				add_details(events, m, contents[i], extra and args[extra + 1], extra and args[extra + 2])
			end
		end
		if requests[i] == DROP and not why then
			drops.to = math.max(drops.to, asked[i] + 0)
			drops.of_both = drops.of_both or not made
		end
		if made then
			if made == '' then
				r = r + 1
				drops.removed[r] = order_id
			else
				changed[c + 1], changed[c + 2] = order_id, made
				c = c + 2
			end
			if latest then
				latest[order_id] = made
			end
		end
	end
	return ends, m, c, r, rest
end

-- Notes for reconciliations which orders of a kind change: the first n pieces of `recent` are ';<p> <order id>', or
-- '<order id>' of the same p (or as recent:r has them). They are joined at once, since adding to a text copies all of it. Before anything is written:
-- it may fail, and does no harm alone.
local recent = {} -- used again by the next call
local function note_recent(own, kind, now_ms, n)
	call('ZADD', own['recent:' .. kind], now_ms, now_ms .. concat(recent, ' ', 1, n))
end

-- Notes the records of split orders that n conclusions change (c values), and drop (r of them). The parts of those that are
-- dropped may come back with a master that has lost it, and then nothing else says that they were there.
function drops.note(own, args, n, c, r)
	local count = 0
	if c > 0 then
		recent[1], count = ';r', c / 2 + 1
		for i = 1, c, 2 do
			recent[(i + 3) / 2] = changed[i]
		end
	end
	if r > 0 then
		count = count + 1
		recent[count] = ';d'
		for i = 1, n do
			if requests[i] == DROP and records[i] then
				count = count + 1
				recent[count] = args[IDS + i] .. gsub(records[i], '[^@]*(@%d+)', '%1')
			end
		end
	end
	note_recent(own, 'r', args[2], count)
end

-- Decides n requests, which have been read, and writes what follows. `at` is the position of the extras; `split`: all
-- orders are.
local function serve(keys, args, own, n, at, decide, split)
	local events, acks, extras = begin_batch(), at, nil
	if #args[1] > n then
		acks = at + 4 * tonumber(sub(args[1], n + 1))
		extras = extras_of(args, at, acks)
	end
	drops.sold, drops.to, drops.of_both = nil, 0, false
	local ends, m, c, r, rest = decide_all(args, n, extras, events, decide, split)
	local moved
	m, moved = changed_counters(needed, needed_count, counters, events, m)
	if c + r > 0 and split then
		drops.note(own, args, n, c, r)
	end
	if m > 0 then
		open_stream(keys[1]):publish(args[2], args[3], events, m)
	end
	write_pairs(own.stock, counter_pairs, moved)
	write_pairs(own.r, changed, c)
	if r > 0 then
		call('HDEL', own.r, unpack(drops.removed, 1, r))
		drops.write(own)
	end
	if drops.to > 0 then
		drops.raise(drops.key)
	end
	if drops.of_both then
		drops.raise(own.dropped_until_split)
	end
	if #args >= acks and not rest then
		acknowledge(keys, GROUP, args, acks)
	end
	return rest and { ends, unpack(rest) } or ends -- a table costs more
end

-- FCALL inventory_request 1|2 <own events> [<order events>] <letters>[<extras>] <now_ms> <time> <order id> × n
--       <lines> for each 'r', <order version> <lines> for each 'b' among the letters  { <position> <attempt> <trace> <asked> } × extras  <stream id> …
--
-- Serves n requests, one letter each, in their order; '?' only asks for the record. Extras are for requests that
-- are repeated, traced, late or drop the order. <asked>: when the order asked, if that is long ago: a late request finds by it
-- that its order was dropped; of a drop: when none of its requests can be older. Else ''. After them come the entries to acknowledge; if a request is not served none is
-- acknowledged.
--
-- Answers text or { text, … }: the text has three letters per request: state before, state after, answer; '!!!' for one
-- that failed; twice the state and '?' for one that was not served, because its order is split or because it asked
-- for the record. For each of the latter two an error or the record follows, in their order; if there is none dropped_until_split,
-- or '' if nothing was dropped.
local function request(keys, args)
	local own, n = own_keys(keys[1]), request_count(args[1])
	local at = read_requests(own, args, n)
	drops.key, drops.until_ms = own.dropped_until, false
	read_needed_counters(own.stock, n)
	return serve(keys, args, own, n, at, decide)
end

local function word_of(letter)
	for word, other in pairs(STATE_LETTERS) do
		if other == letter then
			return word
		end
	end
	return 'none'
end

-- Of one request: what became of the reservation. nil: it was not served, or had no effect.
local function outcome_of_request(answer)
	local before, after, answered_by = match(type(answer) == 'table' and answer[1] or answer, '^(%u)(%u)(.)$')
	if not before or answered_by == '?' or before == after and answered_by == '-' then
		return nil
	end
	return 'reservation ' .. word_of(before) .. (before == after and ', the order is told again' or ' to ' .. word_of(after))
end

outcomes.request = outcome_of_request

-- ---- split orders ----

-- What was read of each order, and what its parts say, as letters.
local read, said = {}, {}

-- Decides the conclusion of request i as decide above; one whose record is not the one that was read is not served.
local function decide_conclusion(i, order_id, now_ms)
	local state, version, text, record = stored(i, order_id)
	local rule = state and RULES[state][requests[i]]
	if not rule then
		return nil, 'the reservation is damaged'
	elseif state ~= read[i] then
		return state .. state .. '?', record or drops.text
	elseif state == 'N' and drops.was(i) then
		return 'NN-'
	elseif rule.effect == 'D' then
		return follow(i, rule, state)
	elseif state == 'R' and not find(text, '@', 1, true) then
		return nil, 'the order is not split'
	elseif said[i] == 'u' then
		rule = REFUSED
	elseif said[i] == 'l' then
		rule = RULES[state][RELEASE]
	elseif rule.effect == 'R' then
		local made = note_record_returned(text, lines[i] or '')
		if not made then
			return nil, 'more comes back than was sold'
		end
		return follow(i, rule, state, version, made, now_ms, made ~= text)
	end
	return follow(i, rule, state, version, text, now_ms)
end

-- Reads n conclusions from the arguments, and their records from Redis. Returns the position of the extras.
local function read_conclusions(own, args, n)
	records = call('HMGET', own.r, unpack(args, IDS + 1, IDS + n))
	local at, letters = IDS + n + 3, args[IDS + n + 2]
	for i = 1, n do
		requests[i], lines[i], drops.asked[i] = byte(args[1], i), nil, nil
		read[i], said[i] = sub(letters, 2 * i - 1, 2 * i - 1), sub(letters, 2 * i, 2 * i)
		if read[i] == 'N' then
			drops.asked[i], lines[i] = sub(args[at], 1, 13), sub(args[at], 15)
			at = at + 1
		elseif requests[i] == 98 then
			lines[i] = args[at]
			at = at + 1
		end
	end
	return at
end

-- FCALL inventory_conclude 1|2 <own events> [<order events>] <letters>[<extras>] <now_ms> <time> <order id> × n
--       <generation> <read and said> <asked> <lines> for each order whose record was not there, <order version> <lines> for each
--       return of another  { <position> <attempt> <trace> <asked> } × extras  <stream id> …
--
-- Concludes n requests of split orders, as inventory_request does it; but the counters were moved by inventory_part
-- before. <read and said> has two letters for each: the state of the record that was read, and what the parts say
-- (parts.h): d done, u refused, l released. If the record has another state now the request is not served.
-- Refused with the error GENERATION <current> if <generation> is an older one of this partition.
local function conclude(keys, args)
	local own, n = own_keys(keys[1]), request_count(args[1])
	local kept = call('MGET', own.generation, own.dropped_until_split)
	local generation = kept[1] or '0'
	drops.key, drops.text, drops.until_ms = own.dropped_until_split, kept[2] or '', tonumber(kept[2] or -1)
	if args[IDS + n + 1] + 0 < tonumber(generation) then
		return redis.error_reply('GENERATION ' .. generation)
	end
	local at = read_conclusions(own, args, n)
	read_needed_counters(own.stock, 0)
	return serve(keys, args, own, n, at, decide_conclusion, true)
end

outcomes.conclude = outcome_of_request

-- The letter N: to a part without a record. (66 is B: to one whose record says what came back.)
local UNSOLD = 78
-- What an effect on a part moves, from and to which counter.
local MOVES = {
	T = { AVAILABLE, RESERVED }, M = { RESERVED, COMMITTED }, B = { RESERVED, AVAILABLE },
	A = { AVAILABLE, COMMITTED }, H = { COMMITTED, RESERVED }, C = { COMMITTED, AVAILABLE },
}

-- Applies a rule for a part to the counters. Returns the state behind it; the lines to keep if a hold is refused; or
-- '!' and the error; or '-' if a commit cannot be had.
local function part_effect(rule, text, state)
	local kind = rule.effect
	if kind == 'K' or kind == 'R' then
		return rule.to
	end
	local list = lines_known[text] or lines_of(text)
	if list.damaged or not list[1] then
		return '!', 'the part is damaged'
	elseif kind == 'D' then
		drops.add(state, list)
		return 'N'
	end
	local move = MOVES[kind]
	if list.back and move[1] == COMMITTED then
		-- What came back is not held again, so neither is the rest of what was sold.
		if shift(counters, list.left, COMMITTED, AVAILABLE) then
			return 'L'
		end
		return '!', 'the counters of stock are damaged, or less is sold than the part says'
	end
	local shifted = shift(counters, list.back and list.left or list, move[1], move[2])
	if shifted then
		return rule.to
	elseif shifted == nil or move[1] ~= AVAILABLE then
		return '!', 'the counters of stock are damaged, or less is reserved or sold than the part says'
	elseif kind == 'A' then
		return '-'
	end
	return 'U', shortage_text(counters, list)
end

-- Decides what becomes of part i; changes counters in memory only. Returns a letter, and what is told with it; then
-- the new part, if it changes.
local function decide_part(i, part, p, now_ms, asked, until_ms)
	local state, text, ms = 'N', lines[i], 0
	if part then
		local word
		word, ms, text = match(part, '^(%u+) %d+ (%d+) (.*)$')
		state = word and STATE_LETTERS[word]
	end
	local rule = state and PART_RULES[state][requests[i]]
	if not rule then
		return '!', 'the part is damaged'
	elseif state == 'N' and until_ms > 0 and drops.ends[requests[i]] and asked + 0 <= until_ms then
		return drops.ends[requests[i]]
	elseif (state == 'C' or state == 'R') and requests[i] == UNSOLD and ms + 0 <= asked + 0 then
		rule = PART_RULES[state][DROP]
	end
	if state == 'U' and rule.to ~= 'U' or requests[i] == 66 and rule.effect == 'A' then
		text = lines[i] -- without what was short; with what came back
	end
	local returned, back = nil, nil
	if rule.effect == 'R' or requests[i] == 66 and rule.to == 'C' then
		returned, back = note_returned(text, lines[i], requests[i] == 66)
		if not returned then
			return '!', 'more comes back than was sold'
		end
	end
	local letter, more = part_effect(rule, text, state)
	if letter == 'C' and back and not shift(counters, back, COMMITTED, AVAILABLE) then
		return '!', 'the counters of stock are damaged, or less is sold than the part says'
	end
	if letter == 'U' then
		text = more or text
		more = text
	end
	-- What a sweep is to find must not be younger than the reconciliation: the clock may have gone back.
	local too_young = state == 'R' and requests[i] == UNSOLD and ms + 0 > now_ms + 0
	local grows = letter == 'C' and back and back[1]
	if letter == state and not too_young and not grows or letter == '!' or letter == '-' then
		return letter, more
	elseif letter == 'C' then
		text = returned or text
	elseif letter == 'L' and state == 'C' then
		text = gsub(text, '(=%d+)%-%d+', '%1')
	elseif letter == 'N' then
		return letter, more, ''
	end
	return letter, more, (letter == 'U' and 'UNAVAILABLE' or letter == 'L' and 'RELEASED' or rule.word) ..
		' ' .. p .. ' ' .. now_ms .. ' ' .. text
end

-- The groups of a call, which concern n orders: three lists, of the order partitions, their generations, and how many
-- orders each has; then the position behind them.
local function read_groups(args, n)
	local partitions, generations, counts, at, total = {}, {}, {}, 4, 0
	while total < n do
		local g = #counts + 1
		partitions[g], generations[g], counts[g] = args[at], args[at + 1] + 0, args[at + 2] + 0
		total, at = total + counts[g], at + 3
	end
	return partitions, generations, counts, at
end

local part_changed -- the first part that the last call wrote; nil: none

-- FCALL inventory_part 1 <own events> <now_ms> <time> <letters> { <p> <generation> <count> } …
--       <order id> × n  <lines> × n  <asked> × n
--
-- Holds (letter h), commits (c), releases (f) or drops (d) the parts of n split orders, whose lines here are given, or notes what came back of
-- them (b; the lines say how many in all); or brings
-- them in line with their records, after a loss (other letters: parts.h). The first
-- <count> are of the order partition <p> in this generation, and so on. Orders of a generation that is older than
-- one that is known here change nothing; a newer one is noted.
--
-- <asked>: when what asks for it was published, or the record that it follows was written: if the part is not there, and of the same
-- partition's orders some were dropped here that were not asked for any more then, it was dropped, too, and stays so. Of a drop: when none
-- of the order's requests can be older. Of a part without a record (N): up to when such records were dropped; one that was not changed
-- since is dropped, too.
--
-- Answers { letters, … }: for each part the letter of its state behind it, a small one if a letter that is not small
-- changed it; '-' if it is still not there, because a
-- commit could not be had; '!' if it failed; '<' if its generation is old. For each U the part's lines with the
-- shortages follow, for each '!' the error, for each '<' the known generation; in their order.
local function part(keys, args)
	local own, now_ms, n = own_keys(keys[1]), args[1], #args[3]
	local partitions, generations, counts, at = read_groups(args, n)
	for g = 1, #counts do
		partitions[#counts + g] = 'd' .. partitions[g]
	end
	local known = call('HMGET', own.generations, unpack(partitions))
	drops.sold = nil
	records = call('HMGET', own.parts, unpack(args, at, at + n - 1))
	for i = 1, n do
		requests[i], lines[i] = byte(args[3], i), args[at + n + i - 1]
	end
	read_needed_counters(own.stock, n)
	local answer, letters, made, c, newer, i, r = { '' }, {}, {}, 0, {}, 0, 0
	for g, count in ipairs(counts) do
		local last, before = tonumber(known[g] or 0), c
		local were_until, drops_until = tonumber(known[#counts + g] or -1), -1
		if generations[g] > last then
			newer[#newer + 1], newer[#newer + 2] = partitions[g], format('%d', generations[g])
		end
		for _ = 1, count do
			i = i + 1
			local order_id, letter, more, text = args[at + i - 1], '<', nil, nil
			if generations[g] < last then
				more = format('%d', last)
			else
				local asked = args[at + 2 * n + i - 1]
				local stored_part = made[order_id] or records[i]
				if stored_part == '' then
					stored_part = false -- dropped by this call
				end
				letter, more, text = decide_part(i, stored_part, partitions[g], now_ms, asked,
					drops_until > were_until and drops_until or were_until)
				if requests[i] == DROP and letter == 'N' and asked + 0 > 0 then
					drops_until = math.max(drops_until, asked + 0)
				end
			end
			if text == '' then
				r = r + 1
				drops.removed[r], made[order_id] = order_id, ''
			elseif text then
				recent[c / 2 + 1] = c == before and ';' .. partitions[g] .. ' ' .. order_id or order_id
				changed[c + 1], changed[c + 2], made[order_id] = order_id, text, text
				c = c + 2
			end
			letters[i] = text and requests[i] < 97 and string.lower(letter) or letter
			if more then
				answer[#answer + 1] = letter == '!' and order_id .. ': ' .. more or more
			end
		end
		if drops_until > were_until then
			newer[#newer + 1], newer[#newer + 2] = partitions[#counts + g], format('%d', drops_until)
		end
	end
	answer[1] = concat(letters)
	local events = begin_batch()
	local m, moved = changed_counters(needed, needed_count, counters, events, 0)
	if c > 0 then
		note_recent(own, 'parts', now_ms, c / 2)
	end
	if m > 0 then
		open_stream(keys[1]):publish(now_ms, args[2], events, m)
	end
	write_pairs(own.stock, counter_pairs, moved)
	write_pairs(own.parts, changed, c)
	if r > 0 then
		call('HDEL', own.parts, unpack(drops.removed, 1, r))
		drops.write(own)
	end
	write_pairs(own.generations, newer, #newer)
	part_changed = c > 0 and changed[2] or nil
	return answer
end

outcomes.part = function()
	return part_changed and 'part is ' .. match(part_changed, '^%u+') or nil
end

-- ---- split orders, in one step ----

-- Without a cluster several partitions are all in one Redis, and the steps of new split orders can be made in one call: their parts are held,
-- and their records are concluded, as by `part` and `conclude` one behind the other. What is not so simple is left to these.
-- One call is for orders of several partitions, so that each partition where they have stock is read and written once.
--
-- Of the current call, tables that the next one uses again:
--   groups     by the number of a partition: its orders, from `first` to `last` of the call; own (its keys), p (the number), stream;
--              events, m of them; pairs for HSET of as many records
--   places     by the number of a partition: stock of these orders. own; orders, n ids that have a part there, and at, their
--              numbers in the call; skus and sku_count; parts, pairs for HSET, and part_count
--   list       the places that this call concerns, count of them
--   lines      of each order, as lines_of has them
--   heads      of each, ' <p> <now_ms> ', which follows a part's state
--   begun      of each, whether somebody else has begun with it, or may have: it is not served here
--   dropped    of each, its group's dropped_until_split, or ''
--   counters   by SKU
local together = { groups = {}, places = {}, list = {}, count = 0, lines = {}, heads = {}, begun = {}, dropped = {},
	counters = {}, known = {}, known_count = 0 }

-- The lines 'sku=quantity@q …', or 'sku=quantity …' of an order that is not split, as a flat list { sku, quantity, … }. If all are in
-- one partition, q is that, or '' if it is not split, and part their text there; else `at` is the partition of each, and `parts` is
-- flat { q, text, … }. Cached, since many orders have the same lines: in few tables, through which Lua's collector goes again and again.
function together.lines_of(text)
	local lines, at, parts, seen = {}, {}, {}, {}
	for sku, quantity, q in string.gmatch(text, '([^ =]+)=(%d+)@?(%d*)') do
		local part, k = sku .. '=' .. quantity, seen[q]
		lines[#lines + 1], lines[#lines + 2], at[#at + 1] = sku, quantity + 0, q
		if k then
			parts[k] = parts[k] .. ' ' .. part
		else
			seen[q], parts[#parts + 1], parts[#parts + 2] = #parts + 2, q, part
		end
	end
	if parts[3] then
		lines.at, lines.parts = at, parts
	else
		lines.q, lines.part = parts[1] or '', parts[2]
	end
	if together.known_count >= LINES_MAX then
		together.known, together.known_count = {}, 0
	end
	together.known[text], together.known_count = lines, together.known_count + 1
	return lines
end

-- The place of partition q, which is used for the first time in this call.
function together.open(q)
	local place = together.places[q]
	if not place then
		place = { own = own_keys('inventory:{' .. q .. '}:events'), orders = {}, at = {}, skus = {}, parts = {} }
		together.places[q] = place
	end
	place.open, place.n, place.sku_count, place.part_count = true, 0, 0, 0
	together.count = together.count + 1
	together.list[together.count] = place
	return place
end

-- Forgets what the call before has left.
function together.begin()
	for k = 1, together.count do
		local place = together.list[k]
		place.open = false
		for j = 1, place.sku_count do
			together.counters[place.skus[j]] = nil
		end
	end
	together.count = 0
	records, latest = {}, {}
end

-- Adds order i of partition p, which has these lines, to the places where its stock is.
function together.add(i, order_id, lines, p)
	local counters, places, all = together.counters, together.places, lines.q
	for j = 1, #lines, 2 do
		local sku, q = lines[j], all == '' and p or all or lines.at[(j + 1) / 2]
		local place = places[q]
		if not place or not place.open then
			place = together.open(q)
		end
		local m = place.n
		if all ~= '' and (m == 0 or place.at[m] ~= i) then
			place.n, place.orders[m + 1], place.at[m + 1] = m + 1, order_id, i
		end
		if counters[sku] == nil then
			m = place.sku_count + 1
			place.sku_count, place.skus[m], counters[sku] = m, sku, false
		end
	end
end

-- Reads the group of a partition's orders, and their records. None is served if their generation is not the partition's. If it is,
-- no other partition knows a newer one: it is noted here first, and both are in one Redis. It is an error, as long as nothing is
-- written, if their events cannot be published.
function together.read_group(stream, first, last, generation, args, ids, now_ms)
	local p = match(stream, '{(%d+)}')
	local group, begun, dropped, heads = together.groups[p], together.begun, together.dropped, together.heads
	if not group then
		group = { p = p, own = own_keys(stream), events = { types = {}, names = {} }, pairs = {} }
		together.groups[p] = group
	end
	local kept = call('MGET', group.own.generation, group.own.dropped_until_split)
	local values = call('HMGET', group.own.r, unpack(args, ids + first, ids + last))
	local other, head = generation ~= '' and generation ~= kept[1], ' ' .. p .. ' ' .. now_ms .. ' '
	group.first, group.last, group.m = first, last, 0
	group.events.detailed, group.stream = false, open_stream(stream)
	for i = first, last do
		records[i], begun[i], dropped[i], heads[i] = values[i - first + 1], other, kept[2] or '', head
	end
	return group
end

-- Reads from Redis what the call needs of a partition: parts that are there already are of somebody who has begun.
function together.read_place(place)
	local begun, at = together.begun, place.at
	read_counters(place.own.stock, place.skus, place.sku_count, together.counters)
	if place.n == 0 then
		return
	end
	local parts = call('HMGET', place.own.parts, unpack(place.orders, 1, place.n))
	for k = 1, place.n do
		if parts[k] then
			begun[at[k]] = true
		end
	end
end

-- Whether so much less would make something low: its event is in another stream, or of another version.
function together.is_low(list)
	for j = 1, #list, 2 do
		local counter = together.counters[list[j]]
		if counter and counter.threshold and not counter.low and
				counter[AVAILABLE] - list[j + 1] < counter.threshold then
			return true
		end
	end
	return false
end

function together.add_part(q, order_id, text)
	local place = together.places[q]
	local parts, n = place.parts, place.part_count
	parts[n + 1], parts[n + 2], place.part_count = order_id, text, n + 2
end

-- Notes the parts of an order that is refused: those that are short, and the others, as if they had been held and released.
-- Returns the lines of its record.
function together.refuse(order_id, lines, head)
	local texts, parts, short, order = {}, {}, {}, {}
	for j = 1, #lines / 2 do
		local sku, quantity, q = lines[2 * j - 1], lines[2 * j], lines.q or lines.at[j]
		local counter, text = together.counters[sku], format('%s=%d', sku, quantity)
		if not counter or counter[AVAILABLE] < quantity then
			text, short[q] = text .. (counter and format('/%d', counter[AVAILABLE]) or '/00'), true
		end
		if not parts[q] then
			order[#order + 1] = q
		end
		texts[j], parts[q] = q == '' and text or text .. '@' .. q, parts[q] and parts[q] .. ' ' .. text or text
	end
	for _, q in ipairs(lines.q == '' and {} or order) do
		together.add_part(q, order_id, (short[q] and 'UNAVAILABLE' or 'RELEASED') .. head .. parts[q])
	end
	return concat(texts, ' ')
end

-- Decides order i as decide above, with its parts. `text`: its lines. `asked`, if it is late: when it asked.
function together.decide(i, order_id, text, now_ms, asked)
	local lines, head = together.lines[i], together.heads[i]
	if records[i] or latest[order_id] or together.begun[i] or together.is_low(lines) or
			asked and asked ~= '' and asked + 0 <= (tonumber(together.dropped[i]) or -1) then
		local state, _, _, record = stored(i, order_id)
		if not state then
			return nil, 'the reservation is damaged'
		end
		return state .. state .. '?', record or together.dropped[i]
	end
	local reserved = shift(together.counters, lines, AVAILABLE, RESERVED)
	if reserved == nil then
		return nil, 'the counters of stock are damaged, or less is reserved or sold than the reservation says'
	elseif not reserved then
		return follow(i, REFUSED, 'N', '0', together.refuse(order_id, lines, head), now_ms)
	end
	if not lines.q then
		for j = 1, #lines.parts, 2 do
			together.add_part(lines.parts[j], order_id, 'RESERVED' .. head .. lines.parts[j + 1])
		end
	elseif lines.q ~= '' then
		together.add_part(lines.q, order_id, 'RESERVED' .. head .. lines.part)
	end
	return follow(i, RULES.N[RESERVE], 'N', '0', text, now_ms)
end

-- Decides the orders of a group, whose lines are behind all n ids. Sets the letters of their ends. What follows for those that are not
-- served is added to `rest`.
function together.decide_group(group, args, ids, n, extras, ends, rest)
	local events, made, now_ms = group.events, group.pairs, args[1]
	for i = group.first, group.last do
		local order_id, extra = args[ids + i], extras and extras[i]
		answered[i] = nil
		local done, why, record = together.decide(i, order_id, args[ids + n + i], now_ms, extra and args[extra + 2])
		ends[i] = done or '!!!'
		if why then
			rest[#rest + 1] = done and why or order_id .. ': ' .. why
		else
			local m = group.m + 1
			group.m, events.types[m], events.names[m] = m, answered[i], order_id .. '/' .. versions[i]
			if extra or contents[i] then
				add_details(events, m, contents[i], nil, extra and args[extra + 1])
			end
			made[2 * m - 1], made[2 * m], latest[order_id] = order_id, record, record
		end
	end
end

function together.write_place(place)
	local _, moved = changed_counters(place.skus, place.sku_count, together.counters, nil, 0)
	write_pairs(place.own.stock, counter_pairs, moved)
	write_pairs(place.own.parts, place.parts, place.part_count)
end

-- Acknowledges what the arguments say behind position `at`, <count> <stream id> … for each group.
function together.acknowledge(keys, args, at)
	for g = 1, #keys, 2 do
		local ids, n = {}, tonumber(args[at])
		for k = 1, n do
			ids[k] = args[at + k]
		end
		if n > 0 then
			acknowledge({ keys[g], keys[g + 1] }, GROUP, ids, 1)
		end
		at = at + n + 1
	end
end

-- FCALL inventory_reserve 2×g { <own events> <order events> } × g <now_ms> <time> { <n> <generation> } × g
--       <order id> × all  <lines> × all  <extras> { <position> <trace> <asked> } × extras  { <count> <stream id> × count } × g
--
-- Reserves new orders of g partitions, n in each: parts, records, answers and acknowledgements in one step. Their lines are
-- 'sku=quantity@q …', or 'sku=quantity …' if they are not split; such an order must not be late. The generation is '' if none of them is
-- split. Not for a cluster. An order with a record or a part, or of another generation, or that may have been dropped, or whose reservation makes something low, is not served: then its
-- request goes step by step. Answers as inventory_request; if one is not served nothing is acknowledged.
--
-- Nothing is noted for reconciliations: parts and records cannot lose each other.
callbacks.reserve = function(keys, args)
	if clustered then
		return redis.error_reply('ERR the partitions of a cluster are not in one Redis')
	end
	local now_ms, n, groups, extras, rest, ends = args[1], 0, {}, nil, {}, {}
	local ids = 2 + #keys -- the id of order i is args[ids + i]
	together.begin()
	for g = 1, #keys / 2 do
		local count = tonumber(args[2 * g + 1])
		groups[g] = together.read_group(keys[2 * g - 1], n + 1, n + count, args[2 * g + 2], args, ids, now_ms)
		n = n + count
	end
	for g = 1, #groups do
		for i = groups[g].first, groups[g].last do
			local text = args[ids + n + i]
			together.lines[i] = together.known[text] or together.lines_of(text)
			together.add(i, args[ids + i], together.lines[i], groups[g].p)
		end
	end
	for k = 1, together.count do
		together.read_place(together.list[k])
	end
	local at = ids + 2 * n + 1
	local acks = at + 1 + 3 * tonumber(args[at])
	for extra = at + 1, acks - 1, 3 do
		extras = extras or {}
		extras[tonumber(args[extra])] = extra
	end
	for g = 1, #groups do
		together.decide_group(groups[g], args, ids, n, extras, ends, rest)
	end
	for g = 1, #groups do
		if groups[g].m > 0 then
			groups[g].stream:publish(now_ms, args[2], groups[g].events, groups[g].m)
		end
	end
	for k = 1, together.count do
		together.write_place(together.list[k])
	end
	for g = 1, #groups do
		write_pairs(groups[g].own.r, groups[g].pairs, 2 * groups[g].m)
	end
	local letters = concat(ends)
	if rest[1] then
		return { letters, unpack(rest) }
	end
	together.acknowledge(keys, args, acks)
	return letters
end

-- ---- reconciliation: in_step.c and reconcile.c say how ----

-- Which master this is: its replication history has another id after each promotion and each start.
local function master_mark()
	return sub(match(call('INFO', 'replication'), 'master_replid:(%x+)'), 1, 16)
end

-- Notes that the master with this mark is alive.
local function note_alive(own, mark, now_ms)
	-- How long what has changed is remembered. What is older than a master may be needed to reconcile what its
	-- predecessor lost: so nothing is dropped as long after its beginning. What is written beside the first note may be older
	-- than that. (Not at the top: a library may have 200 locals there.)
	local RECENT_MS, BESIDE_MS = 120000, 5000
	local known = call('HMGET', own.alive, mark, 'begun', 'edge', 'cluster')
	local alive, begun, edge = known[1], known[2], known[3]
	if alive and now_ms - alive < 1000 then
		return
	elseif not alive or not begun then
		begun = now_ms
	end
	if not edge or clustered and known[4] ~= '1' then
		edge = call('EXISTS', own.r, own.parts) == 0 and 0 or now_ms + BESIDE_MS
	elseif now_ms - begun > RECENT_MS and now_ms - RECENT_MS > edge + 0 then
		edge = now_ms - RECENT_MS
		call('ZREMRANGEBYSCORE', own['recent:r'], '-inf', format('%d', edge))
		call('ZREMRANGEBYSCORE', own['recent:parts'], '-inf', format('%d', edge))
	end
	call('HSET', own.alive, mark, now_ms, 'begun', begun, 'edge', format('%d', edge), 'cluster', clustered and '1' or '0')
end

-- FCALL inventory_state 1 <own events> <now_ms> <generation> <digest> <by>
--
-- Says that this master is alive. Answers its mark; then of this partition the generation, the digest of the marks that
-- its last reconciliation saw, by whom it is reconciled now and until when, and when it is to be swept ('': none); then
-- those marks and the ones that are seen now, which are '' if generation, digest and by are the given ones.
local function state(keys, args)
	local own, now_ms, mark = own_keys(keys[1]), args[1], master_mark()
	local kept = call('HMGET', own.reconciliation, 'digest', 'by', 'until', 'sweep')
	note_alive(own, mark, now_ms)
	for i = 1, 4 do
		kept[i] = kept[i] or ''
	end
	local generation, marks = call('GET', own.generation) or '0', {}
	if generation ~= args[2] or kept[1] ~= args[3] or kept[2] ~= args[4] then
		marks = call('HMGET', own.reconciliation, 'marks', 'under')
	end
	return { mark, generation, kept[1], kept[2], kept[3], kept[4], marks[1] or '', marks[2] or '' }
end

-- FCALL inventory_reconcile 1 <own events> <now_ms> <name> <lease ms> <held> <above> <digest> <marks>
--
-- Begins to reconcile this partition, since these are the marks now (<held> is 0): a new generation, higher than <above>
-- and than the one that is there. Or goes on with that: <held> is the generation, which <name> has begun. Answers the
-- generation and the marks that the last reconciliation saw ('': there was none); when the last one ended that has mended
-- something, and since when that looked; who has begun and did not end ('': nobody); and the generation before. '0' and '' if somebody else reconciles, or has done so: it is in step with the marks, of which <digest> is, and its
-- generation is not below <above>.
local function reconcile(keys, args)
	local own, now_ms, name, held = own_keys(keys[1]), args[1] + 0, args[2], args[4]
	local kept = call('HMGET', own.reconciliation, 'by', 'until', 'marks', 'digest', 'ended', 'since')
	local generation, lease = call('GET', own.generation) or '0', format('%d', now_ms + args[3])
	if held ~= '0' then
		if held ~= generation or kept[1] ~= name then
			return { '0', '' }
		end
		call('HSET', own.reconciliation, 'until', lease)
		return { generation, '' }
	elseif kept[1] and kept[1] ~= name and kept[2] + 0 > now_ms or
			not kept[1] and kept[4] == args[6] and args[5] + 0 <= generation + 0 then
		return { '0', '' }
	end
	local before = generation
	generation = format('%d', math.max(generation, args[5]) + 1)
	call('HSET', own.reconciliation, 'by', name, 'until', lease, 'under', args[7])
	call('SET', own.generation, generation)
	return { generation, kept[3] or '', kept[5] or '', kept[6] or '', kept[1] or '', before }
end

-- FCALL inventory_fence 1 <own events> <p> <generation> <mark>
--
-- Calls for orders of partition <p> that are of an older generation are refused here from now on. Answers the highest
-- generation that was known; this master's mark; and when the master with the given mark was last known to be alive
-- ('': never).
local function fence(keys, args)
	local own, p, generation = own_keys(keys[1]), args[1], args[2]
	local known = call('HGET', own.generations, p) or '0'
	local alive = call('HGET', own.alive, args[3])
	if known + 0 < generation + 0 then
		call('HSET', own.generations, p, generation)
	end
	return { known, master_mark(), alive or '' }
end

-- Of what changed since <from> a page: a flat list of ids and values as HSCAN answers it, and the next cursor. Of a record that was
-- dropped the value is '@q@q', where its parts were. A cursor is 'i' and
-- the unix ms from when on it goes on; what changed then may come twice.
local function recent_page(own, kind, p, cursor, count)
	local PAGE_NOTES = 200 -- more than calls in a ms
	local from = sub(cursor, 2)
	local notes = call('ZRANGEBYSCORE', own['recent:' .. kind], from, '+inf', 'LIMIT', '0', PAGE_NOTES)
	local ids, page, known, following = {}, {}, {}, '0'
	-- What the note says behind this tag.
	local function take(note, tag, add)
		local wanted = ';' .. tag .. ' '
		local at = find(note, wanted, 1, true)
		while at do
			local stop = find(note, ';', at + 1, true)
			for id in string.gmatch(sub(note, at + #wanted, (stop or 0) - 1), '[^ ]+') do
				if not known[id] then
					known[id] = true
					add(id)
				end
			end
			at = stop and find(note, wanted, stop, true)
		end
	end
	for _, note in ipairs(notes) do
		if #ids + #page / 2 >= count + 0 then
			local ms = match(note, '^%d+')
			if ms + 0 > from + 0 then
				following = 'i' .. ms
				break
			end
		end
		take(note, kind == 'r' and 'r' or p, function(id)
			ids[#ids + 1] = id
		end)
		if kind == 'r' then
			take(note, 'd', function(dropped)
				page[#page + 1], page[#page + 2] = match(dropped, '^([^@]+)(.*)$')
			end)
		end
	end
	if following == '0' and #notes == PAGE_NOTES then
		following = 'i' .. match(notes[#notes], '^%d+')
	end
	for at = 1, #ids, CHUNK do
		local to = math.min(at + CHUNK - 1, #ids)
		local values = call('HMGET', own[kind], unpack(ids, at, to))
		for i = at, to do
			local value = values[i - at + 1]
			if value then
				page[#page + 1], page[#page + 2] = ids[i], value
			end
		end
	end
	return following, page
end

-- FCALL inventory_scan 1 <own events> <r or parts> <p> <cursor> <count> <from ms> <to ms> <letters>
--
-- A page of the split orders whose records are here (r), or of the parts of partition <p>'s orders (parts): those in a
-- state of these letters that were changed in this time. What changed last is looked up; if that does not go back so far, all
-- are read. Answers the next cursor ('0': done), then for each an order id, the letter of its state and the lines. Of a record
-- that was dropped meanwhile the letter is N, and '@q@q' stands for its lines: the partitions of its parts.
local function scan(keys, args)
	local own, kind, p, cursor, from = own_keys(keys[1]), args[1], args[2], args[3], args[5]
	local to, letters, following, pairs = args[6] + 0, args[7], nil, nil
	if cursor == '0' then
		local edge = call('HGET', own.alive, 'edge')
		cursor = edge and edge + 0 <= from + 0 and 'i' .. from or '0'
	end
	if sub(cursor, 1, 1) == 'i' then
		following, pairs = recent_page(own, kind, p, cursor, args[4])
	else
		local page = call('HSCAN', own[kind], cursor, 'COUNT', args[4])
		following, pairs = page[1], page[2]
	end
	local answer = { following }
	for i = 1, #pairs, 2 do
		local word, number, ms, text = match(pairs[i + 1], '^(%u+) (%d+) (%d+) (.*)$')
		local letter = word and STATE_LETTERS[word]
		if sub(pairs[i + 1], 1, 1) == '@' and find(letters, 'N', 1, true) then
			answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = pairs[i], 'N', pairs[i + 1]
		elseif letter and find(letters, letter, 1, true) and ms + 0 >= from + 0 and ms + 0 <= to and
				(kind == 'r' and find(text, '@', 1, true) or kind == 'parts' and number == p) then
			answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = pairs[i], letter, text
		end
	end
	return answer
end

-- FCALL inventory_holders 1 <own events> <sku> <r or parts> <cursor> <skip> <last> <count>
--
-- Of about <count> records (r) or parts from the cursor on, those that hold stock of a SKU whose stock is here. The
-- first <skip> are left out if the last of them is of the order <last> still: otherwise Redis has put them into another
-- order meanwhile, and none is left out. Answers the next cursor ('0': done) and the SKU's counters ('': there are none);
-- then for each its place among what the cursor gives, the order id, the unix ms of the last change, and how many it holds.
callbacks.holders = function(keys, args)
	local own, kind, skip = own_keys(keys[1]), args[2], args[4] + 0
	local page = call('HSCAN', own[kind], args[3], 'COUNT', args[6])
	local answer, pairs = { page[1], call('HGET', own.stock, args[1]) or '' }, page[2]
	local held, wanted = word_of('R') .. ' ', ' ' .. args[1] .. '='
	if skip > 0 and pairs[2 * skip - 1] ~= args[5] then
		skip = 0
	end
	for i = 2 * skip + 1, #pairs, 2 do
		local text = pairs[i + 1]
		local at, stop = nil, nil
		if sub(text, 1, #held) == held then
			at, stop = find(text, wanted, #held, true)
		end
		local quantity, split = match(text, '^(%d+)(@?)', at and stop + 1 or #text + 1)
		-- What a split order holds is in its parts.
		if quantity and split == '' then
			answer[#answer + 1], answer[#answer + 2] = format('%d', (i + 1) / 2), pairs[i]
			answer[#answer + 1], answer[#answer + 2] = match(text, '^%u+ %d+ (%d+) ') or '0', quantity
		end
	end
	return answer
end

-- FCALL inventory_reconciled 1 <own events> <generation> <marks> <digest> <sweep> <since> <now_ms>
--
-- The reconciliation that has begun with this generation is done; it looked at what was changed after <since>. It is to be swept from <sweep> on ('': nothing is), which
-- looks at what was changed after <since>; or, if an earlier one is noted, when both may be, and as far back as either: what
-- that is to find may be younger, if the clock has gone back. <now_ms> is '' if nothing was mended. Answers 1; 0 if it is not the current one.
callbacks.reconciled = function(keys, args)
	local own, sweep, since = own_keys(keys[1]), args[4], args[5]
	if call('GET', own.generation) ~= args[1] then
		return { '0' }
	end
	if sweep ~= '' then
		local at, before = match(call('HGET', own.reconciliation, 'sweep') or '', '^(%d+) (%d+)$')
		sweep = format('%d', math.max(at or 0, sweep)) .. ' ' .. (before and before + 0 < since + 0 and before or since)
	end
	call('HSET', own.reconciliation, 'marks', args[2], 'digest', args[3], 'sweep', sweep)
	if args[6] ~= '' then
		call('HSET', own.reconciliation, 'since', since, 'ended', args[6])
	end
	call('HDEL', own.reconciliation, 'by', 'until', 'under')
	return { '1' }
end

-- FCALL inventory_swept 1 <own events> <sweep>
--
-- What was to be swept from then on has been.
callbacks.swept = function(keys, args)
	local own = own_keys(keys[1])
	if call('HGET', own.reconciliation, 'sweep') == args[1] then
		call('HSET', own.reconciliation, 'sweep', '')
	end
	return { '1' }
end

-- ---- adjustments ----

-- Reads the adjustments for which the request ids of a batch were used: texts by key.
local function read_adjustments(keys)
	local texts = {}
	for from = 1, #keys, CHUNK do
		local to = math.min(from + CHUNK - 1, #keys)
		local got = call('MGET', unpack(keys, from, to))
		for i = from, to do
			texts[keys[i]] = got[i - from + 1]
		end
	end
	return texts
end

-- Decides one adjustment. Returns the letter of its end and the text of the counters after it (for a
-- refusal: unchanged; for a repeat: after the first time), and the counter if it changed; or nil if damaged.
local function adjust_one(counters, max, item, before)
	if before then
		local delta, counter, reason = match(before, '^(%-?%d+) (%d+ %d+ %d+ %d+ %d+) (.*)$')
		if not delta then
			return nil
		end
		return (delta == item.delta and reason == item.reason) and 'B' or 'C', counter
	end
	local counter, delta = counters[item.sku], item.delta + 0
	if counter == 'damaged' then
		return nil
	end
	counter = counter or { 0, 0, 0, 0, 0, false }
	if delta < 0 and (counter[AVAILABLE] < -delta or counter[RECEIVED] < -delta) then
		return 'S', counter_text(counter)
	elseif delta >= 0 and counter[RECEIVED] > max - delta then
		return 'O', counter_text(counter)
	end
	counter[AVAILABLE], counter[RECEIVED] = counter[AVAILABLE] + delta, counter[RECEIVED] + delta
	counter[VERSION], counter[TEXT] = counter[VERSION] + 1, false
	return 'A', counter_text(counter), counter
end

-- What an adjustment did, for the trail.
local function adjusted_text(item, counter)
	return format('%+d: available %d, reserved %d, committed %d, received %d, version %d', item.delta,
		counter[AVAILABLE], counter[RESERVED], counter[COMMITTED], counter[RECEIVED], counter[VERSION])
end

-- FCALL inventory_adjust 1 <own events> <max> <now_ms> <time> (<sku> <delta> <request id> <reason> <who> <from>) × n
--
-- Adds or removes stock, and enters it in the trail (<who> '': nobody who is known). Answers n texts: a letter (A
-- adjusted, B adjusted before with the same content, C before with another content, S short, O above <max>) and the
-- counters, with the threshold of now; '!' for damaged ones.
local function adjust(keys, args)
	local max, now_ms, time = args[1] + 0, args[2], args[3]
	local stream = open_stream(keys[1])
	local prefix = prefix_of(keys[1])
	local items, skus, counters, id_keys = {}, {}, {}, {}
	open_trail(stream.own)
	for at = 4, #args, 6 do
		local item = { sku = args[at], delta = args[at + 1], reason = args[at + 3], who = args[at + 4],
			from = args[at + 5] }
		if args[at + 2] ~= '' then
			item.key = prefix .. ADJUSTMENTS .. item.sku .. ':' .. args[at + 2]
			id_keys[#id_keys + 1] = item.key
		end
		if counters[item.sku] == nil then
			counters[item.sku] = false
			skus[#skus + 1] = item.sku
		end
		items[#items + 1] = item
	end
	local used = read_adjustments(id_keys)
	read_counters(prefix .. STOCK, skus, #skus, counters)

	local ends, fresh, kept, made = {}, {}, {}, {}
	local events, n = begin_batch(), 0
	for i, item in ipairs(items) do
		local letter, text, counter = adjust_one(counters, max, item, item.key and used[item.key])
		ends[i] = letter and with_threshold(letter .. ' ' .. text, counters[item.sku]) or '!'
		if counter then
			if not counters[item.sku] then
				counters[item.sku] = counter
				fresh[#fresh + 1] = '0'
				fresh[#fresh + 1] = item.sku
			end
			n = n + 1
			made[n], item.result = item, adjusted_text(item, counter)
			events.types[n] = ADJUSTED
			events.names[n] = item.sku .. '/' .. format('%d', counter[VERSION])
			add_details(events, n, pack_adjusted(item.sku, item.delta + 0, item.reason, counter), nil, nil,
				item.who)
			if item.key then
				used[item.key] = item.delta .. ' ' .. text .. ' ' .. item.reason
				kept[#kept + 1] = item.key
			end
		end
	end

	local moved
	n, moved = changed_counters(skus, #skus, counters, events, n)
	if n > 0 then
		call('ZCARD', prefix .. SKUS) -- if it has another type, fail before the entry is added
		stream:publish(now_ms, time, events, n)
	end
	write_pairs(prefix .. STOCK, counter_pairs, moved)
	for from = 1, #fresh, CHUNK do
		call('ZADD', prefix .. SKUS, unpack(fresh, from, math.min(from + CHUNK - 1, #fresh)))
	end
	for _, key in ipairs(kept) do
		call('SET', key, used[key], 'PX', '2592000000') -- 30 days: longer than clients retry
	end
	for _, item in ipairs(made) do
		add_trail(stream.own, item.who == '' and 'anonymous' or item.who, item.from, 'stock.adjust', item.sku,
			item.reason, item.result)
	end
	return ends
end

-- FCALL inventory_adjusted 1 <own events> <max> <now_ms> <time> (<sku> <delta> <request id> <reason> <who> <from>) × n
--
-- For adjustments that were refused because storage is full: answers B or C as inventory_adjust does for
-- request ids that were used before, nil for the others.
local function adjusted(keys, args)
	local prefix = prefix_of(keys[1])
	local ends, counters = {}, {}
	for at = 4, #args, 6 do
		local item = { delta = args[at + 1], reason = args[at + 3] }
		local before = args[at + 2] ~= '' and
			call('GET', prefix .. ADJUSTMENTS .. args[at] .. ':' .. args[at + 2])
		local letter, text
		if before then
			letter, text = adjust_one(nil, nil, item, before)
			read_counters(prefix .. STOCK, { args[at] }, 1, counters)
		end
		ends[#ends + 1] = before and
			(letter and with_threshold(letter .. ' ' .. text, counters[args[at]]) or '!')
	end
	return ends
end

-- FCALL inventory_threshold 1 <own events> <now_ms> <time> (<sku> <threshold> <reason> <who> <from>) × n
--
-- Sets thresholds (0: none), and enters what changes in the trail. Answers the counters of each; '' if there is no such
-- SKU, '!' if they are damaged.
callbacks.threshold = function(keys, args)
	local own, skus, counters, made, ends = own_keys(keys[1]), {}, {}, {}, {}
	open_trail(own)
	for at = 3, #args, 5 do
		if counters[args[at]] == nil then
			counters[args[at]], skus[#skus + 1] = false, args[at]
		end
	end
	read_counters(own.stock, skus, #skus, counters)
	for at = 3, #args, 5 do
		local counter, wanted = counters[args[at]], args[at + 1] + 0
		local before = counter and counter ~= 'damaged' and (counter.threshold or 0)
		if before and before ~= wanted then
			made[at] = format('%d to %d', before, wanted)
			counter.threshold, counter.low = wanted > 0 and wanted or nil, wanted > 0 and counter.low
			counter[VERSION], counter[TEXT] = counter[VERSION] + 1, false
		end
	end
	local events = begin_batch()
	local m, moved = changed_counters(skus, #skus, counters, events, 0)
	if m > 0 then
		open_stream(keys[1]):publish(args[1], args[2], events, m)
	end
	write_pairs(own.stock, counter_pairs, moved)
	for at = 3, #args, 5 do
		local counter = counters[args[at]]
		ends[#ends + 1] = counter == 'damaged' and '!' or counter and counter[TEXT] or ''
		if made[at] then
			add_trail(own, args[at + 3] == '' and 'anonymous' or args[at + 3], args[at + 4],
				'stock.threshold', args[at], args[at + 2], made[at])
		end
	end
	return ends
end

-- Called by operators (operate in events.lua): recount 1 <own events> <sku> <counters> <new counters> <now_ms> <time>
--
-- Replaces the counters, if they are still the given ones. Each change of a reservation changes the versions of its
-- SKUs, so what was added up beside these counters still holds. Answers 1; 0: they have changed.
callbacks.recount = function(keys, args)
	local own, counter, events = own_keys(keys[1]), counter_of(args[3]), begin_batch()
	if call('HGET', own.stock, args[1]) ~= args[2] then
		return 0
	end
	counter[TEXT], counter.low = false, (counter_of(args[2]) or counter).low
	local m, moved = changed_counters({ args[1] }, 1, { [args[1]] = counter }, events, 0)
	if m > 0 then
		open_stream(keys[1]):publish(args[4], args[5], events, m)
	end
	write_pairs(own.stock, counter_pairs, moved)
	return 1
end

outcomes.recount = function(answer, args)
	return answer == 1 and 'counters ' .. args[2] .. ' to ' .. args[3] or nil
end

-- With allow-oom although they store: an order that was taken is decided, a promise is kept.
register('request', request, 'allow-oom')
register('part', part, 'allow-oom')
register('conclude', conclude, 'allow-oom')
register('reserve', callbacks.reserve, 'allow-oom')
register('state', state, 'allow-oom')
register('reconcile', reconcile, 'allow-oom')
register('fence', fence, 'allow-oom')
register('scan', scan, 'no-writes', 'allow-oom')
register('holders', callbacks.holders, 'no-writes', 'allow-oom')
register('reconciled', callbacks.reconciled, 'allow-oom')
register('swept', callbacks.swept, 'allow-oom')
register('adjust', adjust)
register('adjusted', adjusted, 'no-writes', 'allow-oom')
register('threshold', callbacks.threshold)
