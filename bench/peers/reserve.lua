-- The second: reserve stock, publish the answer, acknowledge.
-- KEYS: the reservation, the stock hash, the inventory stream, the order stream.
-- ARGV: order id, entry id, time, then sku, quantity, …
if redis.call('EXISTS', KEYS[1]) == 0 then
	local skus = {}
	for i = 4, #ARGV, 2 do
		skus[#skus + 1] = ARGV[i]
	end
	local have = redis.call('HMGET', KEYS[2], unpack(skus))
	local enough = true
	for i = 1, #skus do
		if tonumber(have[i] or '0') < tonumber(ARGV[3 + 2 * i]) then
			enough = false
		end
	end
	if enough then
		for i = 1, #skus do
			redis.call('HINCRBY', KEYS[2], skus[i], -tonumber(ARGV[3 + 2 * i]))
		end
	end
	local state = enough and 'RESERVED' or 'UNAVAILABLE'
	redis.call('HSET', KEYS[1], 'state', state, 'lines', table.concat(ARGV, ' ', 4))
	redis.call('XADD', KEYS[3], '*', 'id', ARGV[1] .. '/1', 'type',
		enough and 'tandem.inventory.v1.InventoryReserved' or 'tandem.inventory.v1.InventoryUnavailable',
		'subject', ARGV[1], 'seq', 1, 'time', ARGV[3], 'data', '')
end
redis.call('XACK', KEYS[4], 'inventory', ARGV[2])
return 1
