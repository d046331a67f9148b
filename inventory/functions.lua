-- functions.lua - the atomic steps of the inventory service. The library begins with
-- runtime/events/events.lua, then come the rules of stock.c and the fields of messages as tables.c writes them.
--
-- Keys, all with the prefix of KEYS[1] ('inventory:{0}:events' gives 'inventory:{0}:'):
--
--   stock    hash: SKU → '<available> <reserved> <committed> <received> <version>'
--   skus     sorted set: every SKU, all with score 0: for listing in byte order
--   r        hash: order id → '<STATE> <version> <unix ms of the last change> <lines>', where lines
--            are 'sku=quantity sku=quantity …'; a line that was short is 'sku=quantity/available'
--   adjust:<sku>:<request id>   string with an expiry: what an adjustment was and what it gave,
--            '<delta> <available> <reserved> <committed> <received> <version> <reason>'
--   events   stream: the answers, and what was adjusted
--
-- All counters are in one hash and all reservations in another, so that a batch of any size reads
-- and writes each of them once. Redis CPU is the most expensive part of an order: a batch shares what
-- it can; only the XADD is left for each order.
--
-- Every function decides first, without writing, and writes last: an error cannot leave half a
-- step. An item whose records are damaged gets its own error, is not acknowledged and
-- changes nothing; the others are not affected.

local RESERVATIONS, STOCK, SKUS, ADJUSTMENTS = 'r', 'stock', 'skus', 'adjust:'
local GROUP = 'inventory'
local SMALL = { '1', '2', '3', '4' } -- versions as text
-- A counter: five numbers, and the text they were read from; false once they changed.
local AVAILABLE, RESERVED, COMMITTED, RECEIVED, VERSION, TEXT = 1, 2, 3, 4, 5, 6
-- Values for one command: Lua's stack holds 8000.
local CHUNK = 2000

-- ---- protobuf: messages whose content is known only here ----

local function varint(n)
	local bytes = ''
	while n >= 128 do
		bytes = bytes .. string.char(n % 128 + 128)
		n = math.floor(n / 128)
	end
	return bytes .. string.char(n)
end

-- A field of a number; proto3 leaves zeros out.
local function number_field(field, n)
	if n == 0 then
		return ''
	elseif field.zigzag then
		n = n > 0 and 2 * n or -2 * n - 1
	end
	return field.key .. varint(n)
end

-- A field of a string or a message.
local function bytes_field(field, bytes)
	return field.key .. varint(#bytes) .. bytes
end

-- An InventoryUnavailable, out of a reservation's lines.
local function pack_shortages(lines)
	local shortage, shortages = FIELDS.ReservationShortage, {}
	for sku, requested, available in string.gmatch(lines, '([^ =]+)=(%d+)/(%d+)') do
		shortages[#shortages + 1] = bytes_field(FIELDS.InventoryUnavailable.shortages,
			bytes_field(shortage.sku, sku) ..
			number_field(shortage.requested, requested + 0) ..
			number_field(shortage.available, available + 0))
	end
	return table.concat(shortages)
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
	local a, r, c, received, version = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
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

-- %d, not '..': a number that is joined becomes 1e+14 when it is large.
local function counter_text(counter)
	return string.format('%d %d %d %d %d', counter[AVAILABLE], counter[RESERVED],
		counter[COMMITTED], counter[RECEIVED], counter[VERSION])
end

-- Counters of former calls, by SKU: what is read as the same text need not be parsed again.
local COUNTERS_MAX = 4096
local counters_known, counters_count = {}, 0
local function known_counter(sku, text)
	local counter = counters_known[sku]
	if counter and counter[TEXT] == text then
		return counter
	end
	local parsed = counter_of(text)
	if not parsed then
		return 'damaged'
	elseif counters_count >= COUNTERS_MAX then
		counters_known, counters_count, counter = {}, 0, nil
	end
	counters_known[sku] = parsed
	counters_count = counters_count + (counter and 0 or 1)
	return parsed
end

-- Reads the counters of `skus` (a list) into `counters`: a table, or false for a SKU that is not
-- there, or the text 'damaged'.
local function read_counters(key, skus, counters)
	for from = 1, #skus, CHUNK do
		local to = math.min(from + CHUNK - 1, #skus)
		local texts = redis.call('HMGET', key, unpack(skus, from, to))
		for i = from, to do
			local text = texts[i - from + 1]
			counters[skus[i]] = text and known_counter(skus[i], text)
		end
	end
end

-- Sets pairs of fields and values, a flat list, in a hash.
local function write_pairs(key, pairs)
	for from = 1, #pairs, CHUNK do
		redis.call('HSET', key, unpack(pairs, from, math.min(from + CHUNK - 1, #pairs)))
	end
end

-- Writes those that changed since they were read.
local function write_counters(key, skus, counters)
	local pairs, n = {}, 0
	for i = 1, #skus do
		local counter = counters[skus[i]]
		if counter and counter ~= 'damaged' and not counter[TEXT] then
			counter[TEXT] = counter_text(counter)
			pairs[n + 1], pairs[n + 2] = skus[i], counter[TEXT]
			n = n + 2
		end
	end
	write_pairs(key, pairs)
end

-- ---- requests of orders ----

local RESERVE = 114 -- the byte 'r': a library has no 'string' yet while it is loaded
-- Lines as a flat list { sku, quantity, … }, remembered for a while: orders look alike.
local LINES_MAX = 4096
local lines_known, lines_count = {}, 0
local function lines_of(text)
	local list = lines_known[text]
	if list then
		return list
	end
	list = {}
	local n = 0
	for sku, quantity in string.gmatch(text, '([^ =]+)=(%d+)') do
		list[n + 1], list[n + 2] = sku, quantity + 0
		n = n + 2
	end
	if lines_count >= LINES_MAX then
		lines_known, lines_count = {}, 0
	end
	lines_known[text], lines_count = list, lines_count + 1
	return list
end

-- The lines, with what was available of those that are short.
local function shortage_text(counters, list)
	local texts = {}
	for i = 1, #list, 2 do
		local counter = counters[list[i]]
		local available = counter and counter[AVAILABLE] or 0
		texts[#texts + 1] = string.format(
			available < list[i + 1] and '%s=%d/%d' or '%s=%d', list[i], list[i + 1], available)
	end
	return table.concat(texts, ' ')
end

-- Moves every line's quantity from one counter to another. True; or false, and nothing happened:
-- some counter has less, or there is none; or nil, and nothing happened: some counter is damaged.
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

-- What an effect does to the counters: true; or true, the rule to follow instead and the lines to
-- keep, for a reserve that is refused; or false and why it cannot be.
local function take_effect(batch, rule, lines)
	local effect = rule.effect
	if effect == 'K' then
		return true
	end
	local counters, list = batch.counters, lines_of(lines)
	if effect == 'T' then
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

-- Decides request i of the batch: counters and records change in the batch only. Returns the
-- letters of its end; or nil and why it failed.
local function decide(batch, i, order_id)
	-- A record that this batch made is newer than the one that was read.
	local record, lines = batch.latest[order_id] or batch.records[i], batch.lines[i]
	local state, version = 'N', '0'
	if record then
		local word
		word, version, lines = string.match(record, '^(%u+) (%d+) %d+ (.*)$')
		state = word and #version < 15 and STATE_LETTERS[word]
	end
	local rule = state and RULES[state][batch.requests[i]]
	if not rule then
		return nil, 'the reservation is damaged'
	end
	local good, instead, instead_lines = take_effect(batch, rule, lines or '')
	if not good then
		return nil, instead
	elseif instead then
		rule, lines = instead, instead_lines
	end
	if rule.to ~= state then
		version = SMALL[version + 1] or string.format('%d', version + 1)
		batch.latest[order_id] = rule.word .. ' ' .. version .. ' ' .. batch.now_ms .. ' ' ..
			(lines or '')
	end
	if rule.type then
		batch.answers[i], batch.versions[i] = rule.type, version
		if rule.type == REFUSED.type then
			batch.shortages[i] = pack_shortages(lines)
		end
	end
	return rule.ends
end

-- Reads the counters that the batch may need: those of new reserves, and those of held lines.
local function read_needed_counters(batch)
	local skus, counters = batch.skus, batch.counters
	for i = 1, #batch.requests do
		local record, text = batch.records[i], batch.lines[i]
		if record then
			text = string.match(record, '^%u+ %d+ %d+ (.*)$')
		end
		local list = text and lines_of(text) or {}
		for j = 1, #list, 2 do
			if counters[list[j]] == nil then
				counters[list[j]] = false
				skus[#skus + 1] = list[j]
			end
		end
	end
	read_counters(batch.prefix .. STOCK, skus, counters)
end

-- FCALL inventory_request 2 <own events> <order events> <letters> <now_ms> <time> <acks>
--       <order id> × n  <lines> for each 'r' among the letters  <stream id> × acks  <extra> …
--
-- Serves n requests, one letter each, in their order. <acks> is n, or 0 with a single key: nothing
-- to acknowledge; '0-0' stands for a request that has none. Extras come in threes, for requests
-- that are repeated or traced: position, attempt, traceparent.
--
-- Answers { text, error, … }: the text has three letters a request: state before, state after,
-- answer; '!!!' for one that failed, whose reason is among the errors.
local IDS = 4 -- the order id of request i is args[IDS + i]

local function request(keys, args)
	local now_ms, time, acks = args[2], args[3], args[4] + 0
	local n = #args[1]
	local stream = open_stream(keys[1])
	local prefix = prefix_of(keys[1])
	local batch = {
		now_ms = now_ms, prefix = prefix,
		requests = { string.byte(args[1], 1, n) },
		records = redis.call('HMGET', prefix .. RESERVATIONS, unpack(args, IDS + 1, IDS + n)),
		lines = {}, skus = {}, counters = {}, -- of requests; read
		latest = {}, -- records made here, by order
		answers = {}, versions = {}, shortages = {}, -- of requests that are answered
	}
	local at = IDS + n + 1
	for i = 1, n do
		if batch.requests[i] == RESERVE then
			batch.lines[i] = args[at]
			at = at + 1
		end
	end
	read_needed_counters(batch)
	local attempts, traceparents = {}, {}
	for extra = at + acks, #args, 3 do
		local i = args[extra] + 0
		attempts[i], traceparents[i] = args[extra + 1], args[extra + 2]
	end

	local ends, errors = {}, {}
	for i = 1, n do
		local done, why = decide(batch, i, args[IDS + i])
		ends[i] = done or '!!!'
		if not done then
			errors[#errors + 1] = args[IDS + i] .. ': ' .. why
			if acks > 0 then
				args[at + i - 1] = '0-0'
			end
		end
	end

	write_counters(prefix .. STOCK, batch.skus, batch.counters)
	local changed = {}
	for order_id, record in pairs(batch.latest) do
		changed[#changed + 1] = order_id
		changed[#changed + 1] = record
	end
	write_pairs(prefix .. RESERVATIONS, changed)
	for i = 1, n do
		local answer = batch.answers[i]
		if answer then
			stream:publish(now_ms, time, answer, args[IDS + i], batch.versions[i],
				batch.shortages[i] or '', attempts[i], traceparents[i])
		end
	end
	if acks > 0 then
		redis.call('XACK', keys[2], GROUP, unpack(args, at, at + acks - 1))
	end
	return { table.concat(ends), unpack(errors) }
end

-- ---- adjustments ----

local KEEP_ADJUSTMENTS_MS = '2592000000' -- 30 days: longer than clients repeat

-- Reads what the request ids of a batch were used for: texts by key.
local function read_adjustments(keys)
	local texts = {}
	for from = 1, #keys, CHUNK do
		local to = math.min(from + CHUNK - 1, #keys)
		local got = redis.call('MGET', unpack(keys, from, to))
		for i = from, to do
			texts[keys[i]] = got[i - from + 1]
		end
	end
	return texts
end

-- Decides one adjustment. Returns the letter of its end, and the text of the counters after it
-- (for a refusal as they are; for a repeat as they were after the first time); or nil.
local function adjust_one(counters, max, item, before)
	if before then
		local delta, counter, reason = string.match(before, '^(%-?%d+) (%d+ %d+ %d+ %d+ %d+) (.*)$')
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
-- Puts stock in or takes it out. Answers n texts: a letter (A adjusted, B so before, C another
-- content before, S short, O past <max>) and the counters; '!' for damaged ones.
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
	read_counters(prefix .. STOCK, skus, counters)

	local ends, events, fresh, kept = {}, {}, {}, {}
	for i, item in ipairs(items) do
		local letter, text, counter = adjust_one(counters, max, item, item.key and used[item.key])
		ends[i] = letter and letter .. ' ' .. text or '!'
		if counter then
			if not counters[item.sku] then
				counters[item.sku] = counter
				fresh[#fresh + 1] = '0'
				fresh[#fresh + 1] = item.sku
			end
			events[#events + 1] = { item.sku, string.format('%d', counter[VERSION]),
				pack_adjusted(item.sku, item.delta + 0, item.reason, counter) }
			if item.key then
				used[item.key] = item.delta .. ' ' .. text .. ' ' .. item.reason
				kept[#kept + 1] = item.key
			end
		end
	end

	write_counters(prefix .. STOCK, skus, counters)
	for from = 1, #fresh, CHUNK do
		redis.call('ZADD', prefix .. SKUS, unpack(fresh, from, math.min(from + CHUNK - 1, #fresh)))
	end
	for _, key in ipairs(kept) do
		redis.call('SET', key, used[key], 'PX', KEEP_ADJUSTMENTS_MS)
	end
	for _, event in ipairs(events) do
		stream:publish(now_ms, time, ADJUSTED, event[1], event[2], event[3])
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
			redis.call('GET', prefix .. ADJUSTMENTS .. args[at] .. ':' .. args[at + 2])
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
