-- The first atomic step, as a peer would write it: store the order, publish OrderPlaced.
-- KEYS: the order, the order stream. ARGV: order id, data, time.
if redis.call('EXISTS', KEYS[1]) == 1 then
	return 0
end
redis.call('HSET', KEYS[1], 'status', 'PENDING', 'version', 1, 'placed', ARGV[2], 'time', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'id', ARGV[1] .. '/1', 'type', 'tandem.order.v1.OrderPlaced', 'subject',
	ARGV[1], 'seq', 1, 'time', ARGV[3], 'data', ARGV[2])
return 1
