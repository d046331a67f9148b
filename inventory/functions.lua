-- functions.lua - the atomic steps of the inventory service. The library begins with
-- runtime/events/events.lua; then come the rules of stock.c and the fields of messages as tables.c writes
-- them, then this file.
--
-- Keys, all with the prefix of KEYS[1] ('inventory:{0}:events' gives 'inventory:{0}:'):
--
--   stock    hash: SKU → '<available> <reserved> <committed> <received> <version>'
--   skus     sorted set: every SKU, all with score 0: for listing in byte order
--   r        hash: order id → '<STATE> <version> <unix ms of the last change> <lines>', where lines
--            are 'sku=quantity sku=quantity …'; a line that was short is 'sku=quantity/available'
--   adjust:<sku>:<request id>   string with an expiry: an adjustment and its result,
--            '<delta> <available> <reserved> <committed> <received> <version> <reason>'
--   events   stream: answers to requests, and adjustments
--
-- All counters are in one hash and all reservations in another, so that a batch of any size reads
-- and writes each of them once, and publishes one entry: Redis CPU is the most expensive part of an order.
--
-- Every function decides first, without writing, and writes last: an error cannot leave half a
-- step. An item whose records are damaged gets its own error, is not acknowledged and
-- changes nothing; the others are not affected.

local STOCK, SKUS, ADJUSTMENTS = 'stock', 'skus', 'adjust:'
local GROUP = 'inventory'
local NEXT = { ['0'] = '1', ['1'] = '2', ['2'] = '3' } -- versions, as text
-- A counter: five numbers, and the text they were read from; false once they have changed.
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
			number_field(shortage.available, available + 0))
	end
	return concat(shortages)
end

-- A StockAdjusted.
local function pack_adjusted(sku, delta, reason, counter)
	local stock, adjusted = FIELDS.Stock, FIELDS.StockAdjusted
	return number_field(adjusted.delta, delta) ..
		(reason == '' and '' or bytes_field(adjusted.reason, reason)) ..
		bytes_field(adjusted.stock, bytes_field(stock.sku, sku) ..
			number_field(stock.available, counter[AVAILABLE]) ..
			number_field(stock.reserved, counter[RESERVED]) ..
			number_field(stock.committed, counter[COMMITTED]) ..
			number_field(stock.received, counter[RECEIVED]) ..
			number_field(stock.version, counter[VERSION]))
end

-- ---- counters ----

local COUNTER_MAX = 9007199254740991 -- exact in a double

local function counter_of(text)
	local a, r, c, received, version = match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
	if not a then
		return nil
	end
	a, r, c, received, version = a + 0, r + 0, c + 0, received + 0, version + 0
	if a > COUNTER_MAX or r > COUNTER_MAX or c > COUNTER_MAX or received > COUNTER_MAX or
			version >= COUNTER_MAX then
		return nil
	end
	return { a, r, c, received, version, text }
end

-- %d, not '..', which writes large numbers as 1e+14.
local function counter_text(counter)
	return format('%d %d %d %d %d', counter[AVAILABLE], counter[RESERVED],
		counter[COMMITTED], counter[RECEIVED], counter[VERSION])
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

-- Writes the counters that changed since they were read.
local counter_pairs = {} -- used again by the next call
local function write_counters(key, skus, count, counters)
	local pairs, n = counter_pairs, 0
	for i = 1, count do
		local counter = counters[skus[i]]
		if counter and counter ~= 'damaged' and not counter[TEXT] then
			counter[TEXT] = counter_text(counter)
			pairs[n + 1], pairs[n + 2] = skus[i], counter[TEXT]
			n = n + 2
		end
	end
	write_pairs(key, pairs, n)
end

-- ---- requests of orders ----

local IDS = 4 -- the order id of request i is args[IDS + i]
local RESERVE = 114 -- the byte 'r': a library has no 'string' yet while it is loaded
-- Lines as a flat list { sku, quantity, … }, cached, since many orders have the same lines. `damaged` is set if a
-- SKU occurs twice.
local LINES_MAX = 4096
local lines_known, lines_count = {}, 0
local function lines_of(text)
	local list, n, seen = {}, 0, {}
	for sku, quantity in string.gmatch(text, '([^ =]+)=(%d+)') do
		list.damaged = list.damaged or seen[sku]
		seen[sku] = true
		list[n + 1], list[n + 2] = sku, quantity + 0
		n = n + 2
	end
	if lines_count >= LINES_MAX then
		lines_known, lines_count = {}, 0
	end
	lines_known[text], lines_count = list, lines_count + 1
	return list
end

-- The lines; those that are short with the quantity that was available.
local function shortage_text(counters, list)
	local texts = {}
	for i = 1, #list, 2 do
		local counter = counters[list[i]]
		local available = counter and counter[AVAILABLE] or 0
		texts[#texts + 1] = format(
			available < list[i + 1] and '%s=%d/%d' or '%s=%d', list[i], list[i + 1], available)
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

-- Of the current call, used again by the next: for each request the byte of its letter, the record that was read,
-- its lines, and the type, version and shortages of its answer if it gets one; pairs for HSET; SKUs and their counters.
local records
local requests, lines, answered, versions, shortages, changed = {}, {}, {}, {}, {}, {}
local needed, needed_count, counters = {}, 0, {}
-- The records that this call has made, by order, which replace those that were read; nil for a single request.
local latest

-- Applies a rule's effect to the counters. Returns true; or true, the rule to follow instead and the lines
-- to keep, if a reserve is refused; or false and the error.
local function take_effect(rule, text)
	local effect = rule.effect
	if effect == 'K' then
		return true
	end
	local list = lines_known[text] or lines_of(text)
	if list.damaged then
		return false, 'the reservation is damaged'
	elseif effect == 'T' then
		local reserved = shift(counters, list, AVAILABLE, RESERVED)
		if reserved then
			return true
		elseif reserved == false then
			return true, REFUSED, shortage_text(counters, list)
		end
	elseif shift(counters, list, RESERVED, effect == 'M' and COMMITTED or AVAILABLE) then
		return true
	end
	return false, 'the counters of stock are damaged, or less is reserved than the reservation says'
end

-- Decides request i; changes counters in memory only. Returns the letters of its end, or nil and the error; then the
-- new record, if there is one.
local function decide(i, order_id, now_ms)
	local record, text = latest and latest[order_id] or records[i], lines[i]
	local state, version = 'N', '0'
	if record then
		local word
		word, version, text = match(record, '^(%u+) (%d+) %d+ (.*)$')
		state = word and #version < 15 and STATE_LETTERS[word]
	end
	local rule = state and RULES[state][requests[i]]
	if not rule then
		return nil, 'the reservation is damaged'
	end
	local good, instead, instead_lines = take_effect(rule, text or '')
	if not good then
		return nil, instead
	elseif instead then
		rule, text = instead, instead_lines
	end
	answered[i], versions[i], shortages[i] = rule.type, version, nil
	if rule.type == REFUSED.type then
		shortages[i] = pack_shortages(text)
	end
	if rule.to == state then
		return rule.ends
	end
	version = NEXT[version] or format('%d', version + 1)
	versions[i] = version
	return rule.ends, nil, rule.word .. ' ' .. version .. ' ' .. now_ms .. ' ' .. (text or '')
end

-- Reads the counters that the requests may need: for new reserves, and for lines already reserved.
local function read_needed_counters(key, n)
	for i = 1, needed_count do
		counters[needed[i]] = nil
	end
	needed_count = 0
	for i = 1, n do
		local text = lines[i]
		if records[i] then
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

-- Reads n requests from the arguments, and their records from Redis. Returns the position of the extras.
local function read_requests(own, args, n)
	records = call('HMGET', own.r, unpack(args, IDS + 1, IDS + n))
	local at, letters = IDS + n + 1, args[1]
	for i = 1, n do
		local letter, text = byte(letters, i), nil
		if letter == RESERVE then
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
	for extra = at, acks - 1, 3 do
		extras[tonumber(args[extra])] = extra
	end
	return extras
end

-- Decides n requests: what is published goes into the batch, records that change into `changed`. Returns the text of
-- the answer; how many events, and values for HSET, there are; and the errors, if there are any.
local function decide_all(args, n, extras, events)
	local types, names, now_ms = events.types, events.names, args[2]
	local ends, m, c, errors = '', 0, 0, nil
	latest = n > 1 and {} or nil
	for i = 1, n do
		local order_id, extra = args[IDS + i], extras and extras[i]
		local done, why, made = decide(i, order_id, now_ms)
		ends = ends .. (done or '!!!')
		if not done then
			errors = errors or {}
			errors[#errors + 1] = order_id .. ': ' .. why
		elseif answered[i] then
			m = m + 1
			types[m], names[m] = answered[i], order_id .. '/' .. versions[i]
			if extra or shortages[i] then
				add_details(events, m, shortages[i], extra and args[extra + 1], extra and args[extra + 2])
			end
		end
		if made then
			changed[c + 1], changed[c + 2] = order_id, made
			c = c + 2
			if latest then
				latest[order_id] = made
			end
		end
	end
	return ends, m, c, errors
end

-- FCALL inventory_request 1|2 <own events> [<order events>] <letters> <now_ms> <time> <extras> <order id> × n
--       <lines> for each 'r' among the letters  { <position> <attempt> <traceparent> } × extras  <stream id> …
--
-- Serves n requests, one letter each, in their order. Extras are for requests that are repeated or
-- traced. After them come the entries to acknowledge; if a request fails none is acknowledged.
--
-- Answers { text, error, … }: the text has three letters per request: state before, state after,
-- answer; '!!!' for one that failed, whose error follows.
local function request(keys, args)
	local own, events, n = own_keys(keys[1]), begin_batch(), #args[1]
	local at = read_requests(own, args, n)
	read_needed_counters(own.stock, n)
	local acks, extras = at, nil
	if args[4] ~= '0' then
		acks = at + 3 * tonumber(args[4])
		extras = extras_of(args, at, acks)
	end
	local ends, m, c, errors = decide_all(args, n, extras, events)
	if m > 0 then
		open_stream(keys[1]):publish(args[2], args[3], events, m)
	end
	write_counters(own.stock, needed, needed_count, counters)
	write_pairs(own.r, changed, c)
	if #args >= acks and not errors then
		acknowledge(keys, GROUP, args, acks)
	end
	return errors and { ends, unpack(errors) } or { ends }
end

-- ---- adjustments ----

local KEEP_ADJUSTMENTS_MS = '2592000000' -- 30 days: longer than clients retry

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

-- FCALL inventory_adjust 1 <own events> <max> <now_ms> <time> (<sku> <delta> <request id> <reason>) × n
--
-- Adds or removes stock. Answers n texts: a letter (A adjusted, B adjusted before with the same content, C
-- before with another content, S short, O above <max>) and the counters; '!' for damaged ones.
local function adjust(keys, args)
	local max, now_ms, time = args[1] + 0, args[2], args[3]
	local stream = open_stream(keys[1])
	local prefix = prefix_of(keys[1])
	local items, skus, counters, id_keys = {}, {}, {}, {}
	for at = 4, #args, 4 do
		local item = { sku = args[at], delta = args[at + 1], reason = args[at + 3] }
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

	local ends, fresh, kept = {}, {}, {}
	local events, n = begin_batch(), 0
	for i, item in ipairs(items) do
		local letter, text, counter = adjust_one(counters, max, item, item.key and used[item.key])
		ends[i] = letter and letter .. ' ' .. text or '!'
		if counter then
			if not counters[item.sku] then
				counters[item.sku] = counter
				fresh[#fresh + 1] = '0'
				fresh[#fresh + 1] = item.sku
			end
			n = n + 1
			events.types[n] = ADJUSTED
			events.names[n] = item.sku .. '/' .. format('%d', counter[VERSION])
			add_details(events, n, pack_adjusted(item.sku, item.delta + 0, item.reason, counter))
			if item.key then
				used[item.key] = item.delta .. ' ' .. text .. ' ' .. item.reason
				kept[#kept + 1] = item.key
			end
		end
	end

	if n > 0 then
		call('ZCARD', prefix .. SKUS) -- if it has another type, fail before the entry is added
		stream:publish(now_ms, time, events, n)
	end
	write_counters(prefix .. STOCK, skus, #skus, counters)
	for from = 1, #fresh, CHUNK do
		call('ZADD', prefix .. SKUS, unpack(fresh, from, math.min(from + CHUNK - 1, #fresh)))
	end
	for _, key in ipairs(kept) do
		call('SET', key, used[key], 'PX', KEEP_ADJUSTMENTS_MS)
	end
	return ends
end

-- FCALL inventory_adjusted 1 <own events> <max> <now_ms> <time> (<sku> <delta> <request id> <reason>) × n
--
-- For adjustments that were refused because storage is full: answers B or C as inventory_adjust does for
-- request ids that were used before, nil for the others.
local function adjusted(keys, args)
	local prefix = prefix_of(keys[1])
	local ends = {}
	for at = 4, #args, 4 do
		local item = { delta = args[at + 1], reason = args[at + 3] }
		local before = args[at + 2] ~= '' and
			call('GET', prefix .. ADJUSTMENTS .. args[at] .. ':' .. args[at + 2])
		local letter, text
		if before then
			letter, text = adjust_one(nil, nil, item, before)
		end
		ends[#ends + 1] = before and (letter and letter .. ' ' .. text or '!')
	end
	return ends
end

register('request', request, 'allow-oom')
register('adjust', adjust)
register('adjusted', adjusted, 'no-writes', 'allow-oom')
