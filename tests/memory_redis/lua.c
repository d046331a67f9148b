/* lua.c - FUNCTION LOAD, FCALL, and the environment of a library.
 *
 * One Lua state serves every Redis of the process. A library's text is compiled once; each FUNCTION LOAD
 * runs it again, so that its state begins empty. As in Redis, a library that is being loaded sees only
 * `redis`, without the functions that run commands; its functions see the rest when they are called.
 * What our libraries do not use is missing: cjson, coroutine, load, pcall of Lua, math.random and
 * others. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <sys/mman.h>

#include "internal.h"

#undef NDEBUG /* the assertions of a simulation must run */
#include <assert.h>

#define ARGS_MAX 8192
#define PIECE    16                        /* sizes of small blocks are multiples of it */
#define PIECES   32                        /* in the largest small block */
#define SLAB     ((size_t)2 * 1024 * 1024) /* a large page of memory */
#define GC_PAUSE 800 /* percent of what is in use: far more than Lua's 200, since little is */

struct memory_function {
	UT_hash_handle hh;
	char *name, *library;
	bool no_writes, allow_oom;
	int callback; /* in Lua's registry */
};

/* A library's text, compiled. */
struct chunk {
	struct chunk *next;
	struct memory_text code;
	int function; /* in Lua's registry */
};

/* Small blocks of a size that are free. They are not linked in themselves, so that one that was not used for long is only
 * written to. */
struct blocks {
	void **free;
	size_t count, room;
};

static struct {
	lua_State *lua;
	struct chunk *chunks;
	int on_error, load_globals, globals, meta; /* in Lua's registry */
	/* What is being run. */
	struct memory_redis *redis;
	const char *loading; /* the library; NULL: a function runs */
	bool read_only;
	const struct memory_text *keys;
	size_t key_count, own; /* how long the prefix of the first is, which needs no declaration */
	int master;            /* of the first key */
	struct rt_arena answers; /* of the function's commands, each until the next */
	/* Memory of Lua: small blocks that are free, by their size; what is left of the newest slab. */
	struct blocks blocks[PIECES + 1];
	char *slab;
	size_t slab_left;
} engine;

/* ---- errors ---- */

/* An error as Redis passes it to Lua: { err = text }. */
static void push_error(lua_State *lua, const char *text)
{
	lua_newtable(lua);
	lua_pushstring(lua, text);
	lua_setfield(lua, -2, "err");
}

/* Adds source and line to an error that was raised. */
static int on_error(lua_State *lua)
{
	lua_Debug at;
	bool known = lua_getstack(lua, 1, &at) != 0 && lua_getinfo(lua, "Sl", &at) != 0;

	if (known && strcmp(at.what, "C") == 0)
		known = lua_getstack(lua, 2, &at) != 0 && lua_getinfo(lua, "Sl", &at) != 0;
	if (!lua_istable(lua, -1)) {
		const char *text = lua_tostring(lua, -1);

		lua_pushfstring(lua, "ERR %s", text == NULL ? "(null)" : text);
		push_error(lua, lua_tostring(lua, -1));
	}
	if (known) {
		lua_pushstring(lua, at.source);
		lua_setfield(lua, -2, "source");
		lua_pushinteger(lua, at.currentline);
		lua_setfield(lua, -2, "line");
	}
	return 1;
}

static int nonexistent(lua_State *lua)
{
	return luaL_error(lua, "Script attempted to access nonexistent global variable '%s'",
			  lua_tostring(lua, 2));
}

static int read_only(lua_State *lua)
{
	return luaL_error(lua, "Attempt to modify a readonly table");
}

/* ---- answers of Redis to Lua values ---- */

static void push_reply(lua_State *lua, const redisReply *reply)
{
	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		lua_pushnumber(lua, (lua_Number)reply->integer);
		break;
	case REDIS_REPLY_STRING:
		lua_pushlstring(lua, reply->str, (size_t)reply->len);
		break;
	case REDIS_REPLY_STATUS:
		lua_newtable(lua);
		lua_pushlstring(lua, reply->str, (size_t)reply->len);
		lua_setfield(lua, -2, "ok");
		break;
	case REDIS_REPLY_ERROR:
		push_error(lua, reply->str);
		break;
	case REDIS_REPLY_ARRAY:
		luaL_checkstack(lua, 4, "answer");
		lua_createtable(lua, (int)reply->elements, 0);
		for (size_t i = 0; i < reply->elements; i++) {
			push_reply(lua, reply->element[i]);
			lua_rawseti(lua, -2, (int)i + 1);
		}
		break;
	default:
		lua_pushboolean(lua, 0);
	}
}

/* ---- Lua values to answers of Redis ---- */

/* The text in field `name` of the table on top, which keeps it; NULL: there is none. */
static const char *text_in(lua_State *lua, const char *name)
{
	const char *text;

	lua_pushstring(lua, name);
	lua_rawget(lua, -2);
	text = lua_type(lua, -1) == LUA_TSTRING ? lua_tostring(lua, -1) : NULL;
	lua_pop(lua, 1);
	return text;
}

static redisReply *take_reply(struct memory_call *call, lua_State *lua);

static redisReply *take_table(struct memory_call *call, lua_State *lua)
{
	const char *error = text_in(lua, "err"), *status = text_in(lua, "ok");
	redisReply *answer;
	size_t count = 0;

	if (error != NULL)
		return reply_error(call, "%s", error);
	if (status != NULL)
		return reply_status(call, status);
	/* The first nil ends the array. */
	for (;; count++) {
		bool end;

		lua_rawgeti(lua, -1, (int)count + 1);
		end = lua_isnil(lua, -1);
		lua_pop(lua, 1);
		if (end)
			break;
	}
	answer = reply_array(call, count);
	luaL_checkstack(lua, 4, "answer");
	for (size_t i = 0; i < count; i++) {
		lua_rawgeti(lua, -1, (int)i + 1);
		reply_push(answer, take_reply(call, lua));
		lua_pop(lua, 1);
	}
	return answer;
}

/* The value on top of the stack, which stays there. */
static redisReply *take_reply(struct memory_call *call, lua_State *lua)
{
	struct memory_text text;

	switch (lua_type(lua, -1)) {
	case LUA_TSTRING:
		text.data = (char *)(uintptr_t)lua_tolstring(lua, -1, &text.length);
		return reply_text(call, &text);
	case LUA_TBOOLEAN:
		return lua_toboolean(lua, -1) ? reply_int(call, 1) : reply_nil(call);
	case LUA_TNUMBER:
		return reply_int(call, (int64_t)lua_tonumber(lua, -1));
	case LUA_TTABLE:
		return take_table(call, lua);
	default:
		return reply_nil(call);
	}
}

/* ---- redis.call ---- */

/* The length of 'order:{0}:' in 'order:{0}:events': the prefix that needs no declaration. */
static size_t own_prefix(const struct memory_text *key)
{
	const char *end = strstr(key->data, "}:");

	return end == NULL ? key->length : (size_t)(end - key->data) + 2;
}

static void check_declared(const struct memory_text *key, void *user)
{
	bool *declared = user;
	/* Up to the tag, or behind it. */
	size_t own = engine.own > 0 && engine.redis->together
			     ? strcspn(engine.keys[0].data, "{") + 1
			     : engine.own;
	bool found =
		own > 0 && key->length >= own && memcmp(key->data, engine.keys[0].data, own) == 0;

	for (size_t i = 0; i < engine.key_count && !found; i++)
		found = text_same(key, &engine.keys[i]);
	*declared = *declared && found;
}

static redisReply *run_scripted(struct memory_call *call)
{
	redisReply *error = memory_call_begin(call);
	bool declared = true;

	if (error != NULL)
		return error;
	if ((call->command->flags & CMD_NOSCRIPT) != 0)
		return reply_error(call, "ERR This Redis command is not allowed from script");
	if ((call->command->flags & CMD_WRITE) != 0 && engine.read_only)
		return reply_error(call,
				   "ERR Write commands are not allowed from read-only scripts.");
	memory_call_keys(call, check_declared, &declared);
	if (declared)
		return memory_call_run(call);
	engine.redis->undeclared++;
	return reply_error(call, "ERR %s of a key that was not declared", call->command->name);
}

/* Takes the arguments from Lua's stack, where numbers become texts. False, with an error on top: one
 * of them is neither text nor number. */
static bool take_args(lua_State *lua, struct memory_text *argv, size_t argc)
{
	for (size_t i = 0; i < argc; i++) {
		int at = (int)i + 1;

		if (lua_type(lua, at) == LUA_TNUMBER) {
			char text[NUMBER_TEXT];

			number_text(lua_tonumber(lua, at), text);
			lua_pushstring(lua, text);
			lua_replace(lua, at);
		} else if (lua_type(lua, at) != LUA_TSTRING) {
			push_error(lua, "ERR Lua redis lib command arguments must be strings or "
					"integers");
			return false;
		}
		argv[i].data = (char *)(uintptr_t)lua_tolstring(lua, at, &argv[i].length);
	}
	return true;
}

static int run_command(lua_State *lua, bool raises)
{
	static struct memory_text argv[ARGS_MAX];
	size_t argc = (size_t)lua_gettop(lua);
	bool failed = true;

	assert(argc <= ARGS_MAX);
	if (argc == 0) {
		push_error(lua, "ERR Please specify at least one argument for this redis lib call");
	} else if (take_args(lua, argv, argc)) {
		struct memory_call call = { .redis = engine.redis,
					    .arena = &engine.answers,
					    .argc = argc,
					    .argv = argv,
					    .now_ms = rt_loop_unix_ms(engine.redis->loop),
					    .scripted = true,
					    .master = engine.master };
		const redisReply *reply;

		rt_arena_reset(&engine.answers, 65536);
		reply = run_scripted(&call);
		failed = reply->type == REDIS_REPLY_ERROR;
		push_reply(lua, reply);
	}
	return failed && raises ? lua_error(lua) : 1;
}

static int redis_call(lua_State *lua)
{
	return run_command(lua, true);
}

static int redis_pcall(lua_State *lua)
{
	return run_command(lua, false);
}

/* ---- the rest of `redis` ---- */

static int redis_error_reply(lua_State *lua)
{
	const char *text = lua_gettop(lua) == 1 && lua_type(lua, 1) == LUA_TSTRING
				   ? lua_tostring(lua, 1)
				   : "ERR wrong number or type of arguments";

	text += *text == '-';
	if (strchr(text, ' ') == NULL)
		text = lua_pushfstring(lua, "ERR %s", text);
	push_error(lua, text);
	return 1;
}

static int redis_status_reply(lua_State *lua)
{
	lua_newtable(lua);
	lua_pushvalue(lua, 1);
	lua_setfield(lua, -2, "ok");
	return 1;
}

static int redis_log(lua_State *lua)
{
	(void)lua;
	return 0;
}

static int take_flags(lua_State *lua, struct memory_function *function)
{
	for (int i = 1;; i++) {
		const char *flag;

		lua_rawgeti(lua, -1, i);
		flag = lua_tostring(lua, -1);
		if (flag == NULL) {
			lua_pop(lua, 1);
			return 0;
		}
		if (strcmp(flag, "no-writes") == 0)
			function->no_writes = true;
		else if (strcmp(flag, "allow-oom") == 0)
			function->allow_oom = true;
		else if (strcmp(flag, "allow-stale") != 0 && strcmp(flag, "no-cluster") != 0)
			return luaL_error(lua, "unknown flag given");
		lua_pop(lua, 1);
	}
}

/* register_function('name', callback), or { function_name =, callback =, flags = } */
static int redis_register_function(lua_State *lua)
{
	struct memory_function given = { .callback = LUA_NOREF }, *function;
	const char *name;

	if (lua_gettop(lua) == 1 && lua_istable(lua, 1)) {
		lua_getfield(lua, 1, "flags");
		if (lua_istable(lua, -1))
			take_flags(lua, &given);
		lua_pop(lua, 1);
		lua_getfield(lua, 1, "function_name");
		lua_getfield(lua, 1, "callback");
		lua_remove(lua, 1);
	}
	if (lua_gettop(lua) != 2 || lua_type(lua, 1) != LUA_TSTRING || !lua_isfunction(lua, 2))
		return luaL_error(lua, "wrong number of arguments to redis.register_function");
	name = lua_tostring(lua, 1);
	HASH_FIND_STR(engine.redis->functions, name, function);
	if (function != NULL)
		return luaL_error(lua, "Function %s already exists", name);
	given.callback = luaL_ref(lua, LUA_REGISTRYINDEX);
	given.name = rt_strdup(name);
	given.library = rt_strdup(engine.loading);
	function = rt_alloc(sizeof(*function));
	*function = given;
	HASH_ADD_KEYPTR(hh, engine.redis->functions, function->name, strlen(function->name),
			function);
	return 0;
}

/* ---- memory of Lua, which says how large a block is that it gives back: no need to ask malloc ---- */

static void *block_take(size_t pieces)
{
	struct blocks *blocks = &engine.blocks[pieces];
	size_t size = pieces * PIECE;

	if (blocks->count > 0)
		return blocks->free[--blocks->count];
	if (engine.slab_left < size) {
		engine.slab = aligned_alloc(SLAB, SLAB);
		assert(engine.slab != NULL);
		madvise(engine.slab, SLAB, MADV_HUGEPAGE);
		engine.slab_left = SLAB;
	}
	engine.slab_left -= size;
	return engine.slab + engine.slab_left;
}

static void block_give(void *block, size_t pieces)
{
	struct blocks *blocks = &engine.blocks[pieces];

	if (blocks->count == blocks->room) {
		blocks->room = RT_MAX(2 * blocks->room, 1024);
		blocks->free = rt_realloc(blocks->free, blocks->room * sizeof(*blocks->free));
	}
	blocks->free[blocks->count++] = block;
}

static void *change_block(void *user, void *old, size_t old_size, size_t size)
{
	size_t old_pieces = (old_size + PIECE - 1) / PIECE, pieces = (size + PIECE - 1) / PIECE;
	void *block = NULL;

	(void)user;
	if (pieces == old_pieces)
		return old;
	if (pieces > PIECES && old_pieces > PIECES)
		return rt_realloc(old, pieces * PIECE);
	if (size > 0)
		block = pieces > PIECES ? rt_realloc(NULL, pieces * PIECE) : block_take(pieces);
	if (size > 0 && old_size > 0)
		memcpy(block, old, RT_MIN(size, old_size));
	if (old_pieces > PIECES)
		free(old);
	else if (old_size > 0)
		block_give(old, old_pieces);
	return block;
}

/* ---- the engine ---- */

/* Adds them to the table on top. */
static void add_constants(lua_State *lua)
{
	static const char *const levels[] = { "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE",
					      "LOG_WARNING" };

	for (size_t i = 0; i < RT_LENGTH(levels); i++) {
		lua_pushinteger(lua, (lua_Integer)i);
		lua_setfield(lua, -2, levels[i]);
	}
	lua_pushstring(lua, "7.0.15");
	lua_setfield(lua, -2, "REDIS_VERSION");
	lua_pushinteger(lua, 0x0007000f);
	lua_setfield(lua, -2, "REDIS_VERSION_NUM");
	lua_pushcfunction(lua, redis_log);
	lua_setfield(lua, -2, "log");
}

/* Reading any other field of the table on top becomes an error. */
static void deny_others(lua_State *lua)
{
	lua_newtable(lua);
	lua_pushcfunction(lua, nonexistent);
	lua_setfield(lua, -2, "__index");
	lua_setmetatable(lua, -2);
}

static int make_load_globals(lua_State *lua)
{
	lua_newtable(lua);
	lua_newtable(lua);
	add_constants(lua);
	lua_pushcfunction(lua, redis_register_function);
	lua_setfield(lua, -2, "register_function");
	deny_others(lua);
	lua_setfield(lua, -2, "redis");
	deny_others(lua);
	return luaL_ref(lua, LUA_REGISTRYINDEX);
}

static int make_globals(lua_State *lua)
{
	static const luaL_Reg redis_functions[] = { { "call", redis_call },
						    { "pcall", redis_pcall },
						    { "error_reply", redis_error_reply },
						    { "status_reply", redis_status_reply },
						    { NULL, NULL } };
	static const char *const copied[] = { "error",  "ipairs",       "next",          "pairs",
					      "select", "setmetatable", "string",        "table",
					      "math",   "tonumber",     "tostring",      "type",
					      "unpack", "_VERSION",     "collectgarbage" };

	lua_newtable(lua);
	for (size_t i = 0; i < RT_LENGTH(copied); i++) {
		lua_getglobal(lua, copied[i]);
		assert(!lua_isnil(lua, -1));
		lua_setfield(lua, -2, copied[i]);
	}
	lua_getfield(lua, -1, "math");
	lua_pushnil(lua);
	lua_setfield(lua, -2, "random");
	lua_pushnil(lua);
	lua_setfield(lua, -2, "randomseed");
	lua_pop(lua, 1);
	lua_newtable(lua);
	add_constants(lua);
	luaL_register(lua, NULL, redis_functions);
	lua_setfield(lua, -2, "redis");
	deny_others(lua);
	return luaL_ref(lua, LUA_REGISTRYINDEX);
}

/* Sets the globals that a library sees: an empty table in front of one of the two. */
static void set_globals(lua_State *lua, int globals)
{
	lua_rawgeti(lua, LUA_REGISTRYINDEX, engine.meta);
	lua_rawgeti(lua, LUA_REGISTRYINDEX, globals);
	lua_setfield(lua, -2, "__index");
	lua_pop(lua, 1);
}

static lua_State *engine_lua(void)
{
	static const lua_CFunction libraries[] = { luaopen_base, luaopen_table, luaopen_string,
						   luaopen_math };
	lua_State *lua = engine.lua;

	if (lua != NULL)
		return lua;
	engine.lua = lua = lua_newstate(change_block, NULL);
	assert(lua != NULL);
	lua_gc(lua, LUA_GCSETPAUSE, GC_PAUSE);
	for (size_t i = 0; i < RT_LENGTH(libraries); i++) {
		lua_pushcfunction(lua, libraries[i]);
		lua_call(lua, 0, 0);
	}
	engine.load_globals = make_load_globals(lua);
	engine.globals = make_globals(lua);
	lua_newtable(lua);
	lua_newtable(lua);
	lua_pushcfunction(lua, read_only);
	lua_setfield(lua, -2, "__newindex");
	lua_pushvalue(lua, -1);
	engine.meta = luaL_ref(lua, LUA_REGISTRYINDEX);
	lua_setmetatable(lua, -2);
	lua_replace(lua, LUA_GLOBALSINDEX);
	set_globals(lua, engine.globals);
	lua_pushcfunction(lua, on_error);
	engine.on_error = luaL_ref(lua, LUA_REGISTRYINDEX);
	return lua;
}

/* Calls the function below its `args` arguments. True: the results are on top; false: an error is, as
 * a table. */
static bool protected_call(lua_State *lua, int args, int results)
{
	int handler = lua_gettop(lua) - args;
	bool good;

	lua_rawgeti(lua, LUA_REGISTRYINDEX, engine.on_error);
	lua_insert(lua, handler);
	good = lua_pcall(lua, args, results, handler) == 0;
	lua_remove(lua, handler);
	return good;
}

/* The error on top as Redis answers it. */
static redisReply *take_error(struct memory_call *call, lua_State *lua, const char *function)
{
	const char *text = text_in(lua, "err"), *source = text_in(lua, "source");
	int line;

	lua_getfield(lua, -1, "line");
	line = (int)lua_tointeger(lua, -1);
	lua_pop(lua, 1);
	if (source == NULL)
		return reply_error(call, "%s", text);
	return reply_error(call, "%s script: %s, on %s:%d.", text, function, source, line);
}

/* ---- FUNCTION ---- */

static void function_free(struct memory_redis *redis, struct memory_function *function)
{
	HASH_DEL(redis->functions, function);
	luaL_unref(engine.lua, LUA_REGISTRYINDEX, function->callback);
	free(function->name);
	free(function->library);
	free(function);
}

/* The functions of one library; NULL: of all. */
static void functions_delete(struct memory_redis *redis, const char *library)
{
	struct memory_function *function, *next;

	HASH_ITER (hh, redis->functions, function, next) {
		if (library == NULL || strcmp(function->library, library) == 0)
			function_free(redis, function);
	}
}

void memory_functions_free(struct memory_redis *redis)
{
	functions_delete(redis, NULL);
}

static bool has_library(const struct memory_redis *redis, const char *name)
{
	for (const struct memory_function *at = redis->functions; at != NULL; at = at->hh.next)
		if (strcmp(at->library, name) == 0)
			return true;
	return false;
}

/* The text with the patches for this library, each of which must match exactly once. */
static struct memory_text patched(const struct memory_redis *redis, const char *library,
				  const struct memory_text *code)
{
	struct memory_text text = text_copy(code->data, code->length);

	for (size_t i = 0; i < redis->patch_count; i++) {
		const struct memory_patch *patch = &redis->patches[i];
		size_t length = strlen(patch->library);
		char *at, *changed;

		if (strncmp(library, patch->library, length) != 0 || library[length] != '_')
			continue;
		at = strstr(text.data, patch->text);
		if (at == NULL || strstr(at + 1, patch->text) != NULL) {
			fprintf(stderr, "%s: does not occur exactly once: %s\n", library,
				patch->text);
			abort();
		}
		changed = rt_printf("%.*s%s%s", (int)(at - text.data), text.data, patch->instead,
				    at + strlen(patch->text));
		free(text.data);
		text = (struct memory_text){ changed, strlen(changed) };
	}
	return text;
}

/* Puts the compiled text on the stack, or an error. Takes the text. */
static bool push_chunk(lua_State *lua, struct memory_text code)
{
	struct chunk *chunk = engine.chunks;
	const char *body = strchr(code.data, '\n');

	while (chunk != NULL && !text_same(&chunk->code, &code))
		chunk = chunk->next;
	if (chunk != NULL) {
		free(code.data);
	} else {
		if (luaL_loadbuffer(lua, body, code.length - (size_t)(body - code.data),
				    "@user_function") != 0) {
			free(code.data);
			return false;
		}
		chunk = rt_alloc(sizeof(*chunk));
		*chunk = (struct chunk){ .next = engine.chunks,
					 .code = code,
					 .function = luaL_ref(lua, LUA_REGISTRYINDEX) };
		engine.chunks = chunk;
	}
	lua_rawgeti(lua, LUA_REGISTRYINDEX, chunk->function);
	return true;
}

static redisReply *load(struct memory_call *call, const struct memory_text *code,
			const char *library)
{
	lua_State *lua = engine_lua();
	redisReply *answer = NULL;

	if (!push_chunk(lua, patched(call->redis, library, code))) {
		answer = reply_error(call, "ERR Error compiling function: %s",
				     lua_tostring(lua, -1));
		lua_pop(lua, 1);
		return answer;
	}
	engine.redis = call->redis;
	engine.loading = library;
	set_globals(lua, engine.load_globals);
	if (!protected_call(lua, 0, 0)) {
		answer = reply_error(call, "ERR Error registering functions: %s",
				     text_in(lua, "err"));
		lua_pop(lua, 1);
		functions_delete(call->redis, library);
	} else if (!has_library(call->redis, library)) {
		answer = reply_error(call, "ERR No functions registered");
	}
	set_globals(lua, engine.globals);
	engine.loading = NULL;
	return answer != NULL ? answer : reply_str(call, library);
}

/* FUNCTION LOAD [REPLACE] code */
redisReply *run_function_load(struct memory_call *call)
{
	bool replace = call->argc == 4 && arg_is(call, 2, "REPLACE");
	const struct memory_text *code = &call->argv[call->argc - 1];
	static const char begin[] = "#!lua name=";
	char library[64];

	if (call->argc != 3 && !replace)
		return reply_error(call, ERROR_SYNTAX);
	if (strncmp(code->data, begin, strlen(begin)) != 0)
		return reply_error(call, "ERR Missing library metadata");
	snprintf(library, sizeof(library), "%.*s", (int)strcspn(code->data + strlen(begin), "\n"),
		 code->data + strlen(begin));
	if (has_library(call->redis, library) && !replace)
		return reply_error(call, "ERR Library '%s' already exists", library);
	functions_delete(call->redis, library);
	return load(call, code, library);
}

/* ---- FCALL ---- */

static void push_list(lua_State *lua, const struct memory_text *texts, size_t count)
{
	lua_createtable(lua, (int)count, 0);
	for (size_t i = 0; i < count; i++) {
		lua_pushlstring(lua, texts[i].data, texts[i].length);
		lua_rawseti(lua, -2, (int)i + 1);
	}
}

redisReply *run_fcall(struct memory_call *call)
{
	lua_State *lua = engine_lua();
	struct memory_function *function;
	redisReply *answer;
	int64_t keys;
	bool good;

	HASH_FIND(hh, call->redis->functions, call->argv[1].data, call->argv[1].length, function);
	if (function == NULL)
		return reply_error(call, "ERR Function not found");
	if (call->redis->memory_full && !function->allow_oom && !function->no_writes)
		return reply_error(call, ERROR_OOM);
	if (!arg_int(call, 2, &keys))
		return reply_error(call, "ERR Bad number of keys provided");
	if (keys < 0 || (size_t)keys > call->argc - 3)
		return reply_error(call,
				   keys < 0 ? "ERR Number of keys can't be negative"
					    : "ERR Number of keys can't be greater than number "
					      "of args");
	engine.redis = call->redis;
	engine.read_only = function->no_writes;
	engine.keys = call->argv + 3;
	engine.key_count = (size_t)keys;
	engine.own = keys == 0 ? 0 : own_prefix(&engine.keys[0]);
	engine.master = keys == 0 ? 0 : memory_master_of(call->redis, call->argv[3].data);
	lua_rawgeti(lua, LUA_REGISTRYINDEX, function->callback);
	push_list(lua, call->argv + 3, (size_t)keys);
	push_list(lua, call->argv + 3 + keys, call->argc - 3 - (size_t)keys);
	good = protected_call(lua, 2, 1);
	answer = good ? take_reply(call, lua) : take_error(call, lua, function->name);
	lua_pop(lua, 1);
	return answer;
}
