-- functions.lua - what the archive asks of Redis. The library begins with runtime/events/events.lua, then comes this file.
--
-- The archive keeps its data in a database of its own, so it has no keys here but those of every context. It reads foreign
-- streams without taking entries one by one: its group in each of them only says how far they are stored, so that they are
-- not trimmed before. In its own stream it says which orders may be dropped.
--
-- Keys, all with the prefix of KEYS[1] ('archive:{0}:events' gives 'archive:{0}:'), besides:
--
--   events   stream: which orders are archived, so that they need not be kept elsewhere
--
--   FCALL archive_confirm 2 <own stream> <foreign stream> <group> <consumer> <id> <idle_ms>
--     Everything up to the id is stored: sets the group there, forwards or back, and makes it if it is gone. Answers as
--     the function "cursor" does; nil: there is no such stream.

--   FCALL archive_release 1 <own stream> <now_ms> <now> <order id>/<version> …
--     Publishes OrderArchived for each of them, in one entry. Answers how many.

register('confirm', function(keys, args)
	local key, group, id = keys[2], args[1], args[3]
	if pcall('XINFO', 'STREAM', key).err then -- EXISTS is not for foreign keys
		return false
	end
	local there = find_group(key, group)
	if not there then
		call('XGROUP', 'CREATE', key, group, id)
	elseif there['last-delivered-id'] ~= id then
		call('XGROUP', 'SETID', key, group, id)
	end
	return callbacks.cursor(keys, { group, args[2], args[4] })
end, 'allow-oom')

register('release', function(keys, args)
	local stream, batch, n = open_stream(keys[1]), begin_batch(), #args - 2
	for i = 1, n do
		batch.types[i], batch.names[i] = 'tandem.archive.v1.OrderArchived', args[i + 2]
	end
	if n > 0 then
		stream:publish(args[1], args[2], batch, n)
	end
	return n
end, 'allow-oom')
