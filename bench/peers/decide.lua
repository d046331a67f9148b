-- The third: the order learns its fate, publishes it, acknowledges.
-- KEYS: the order, the order stream, the inventory stream. ARGV: order id, entry id, time, status, type.
if redis.call('HGET', KEYS[1], 'status') == 'PENDING' then
	redis.call('HSET', KEYS[1], 'status', ARGV[4], 'version', 2, 'decided', ARGV[3])
	redis.call('XADD', KEYS[2], '*', 'id', ARGV[1] .. '/2', 'type', ARGV[5], 'subject', ARGV[1], 'seq', 2,
		'time', ARGV[3], 'data', '')
end
redis.call('XACK', KEYS[3], 'order', ARGV[2])
return 1
