# Writes a C file that holds another file's bytes. KIND=descriptors: the FileDescriptorSet as
# rt_descriptors. KIND=functions: a Redis function library as <NAME>_functions, put together from
# the files of INPUT, a list (with @CONTEXT@ and @VERSION@ replaced). Its version is a hash of its own text, so
# it cannot be forgotten; the library's name and those of its functions carry it. REMARK, if given, is
# a comment in that text: the same functions as another version (for tests). KIND=page: the files of INPUT, a list, as
# page_files (console/web.h).
if(KIND STREQUAL "descriptors")
	file(READ ${INPUT} hex HEX)
	string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
	string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n\t"
		bytes "${bytes}")
	file(WRITE ${OUTPUT} "/* Generated: the FileDescriptorSet of every .proto. */\n"
		"#include \"rpc/rpc.h\"\n\nstatic const uint8_t bytes[] = {\n\t${bytes}\n};\n"
		"const struct rt_descriptors rt_descriptors = { bytes, sizeof(bytes) };\n")
elseif(KIND STREQUAL "functions")
	set(body "")
	foreach(file IN LISTS INPUT)
		file(READ ${file} part)
		string(APPEND body "${part}\n")
	endforeach()
	string(REPLACE "@CONTEXT@" "${NAME}" body "${body}")
	if(REMARK)
		string(PREPEND body "-- ${REMARK}\n")
	endif()
	string(SHA256 version "${body}")
	string(SUBSTRING ${version} 0 8 version)
	string(REPLACE "@VERSION@" "${version}" body "${body}")
	set(code "#!lua name=${NAME}_${version}\n${body}")
	file(WRITE ${OUTPUT}.lua "${code}")
	file(READ ${OUTPUT}.lua hex HEX)
	string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
	string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n\t"
		bytes "${bytes}")
	file(WRITE ${OUTPUT} "/* Generated from runtime/events/events.lua, ${NAME}/tables.c and ${NAME}/functions.lua. */\n"
		"#include \"redis/redis.h\"\n\nextern const struct rt_functions ${NAME}_functions;\n"
		"static const unsigned char code[] = {\n\t${bytes}\n0x00};\n"
		"const struct rt_functions ${NAME}_functions = { \"${NAME}\", \"${version}\", (const char *)code, sizeof(code) - 1 };\n")
elseif(KIND STREQUAL "page")
	set(types html "text/html" css "text/css" js "text/javascript" svg "image/svg+xml")
	set(arrays "")
	set(rows "")
	set(number 0)
	foreach(file IN LISTS INPUT)
		get_filename_component(name ${file} NAME)
		get_filename_component(ending ${file} LAST_EXT)
		string(SUBSTRING ${ending} 1 -1 ending)
		list(FIND types ${ending} at)
		math(EXPR at "${at} + 1")
		list(GET types ${at} type)
		file(READ ${file} hex HEX)
		string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
		string(APPEND arrays "static const unsigned char file_${number}[] = { ${bytes} };\n")
		string(APPEND rows "\t{ \"/${name}\", \"${type}; charset=utf-8\", file_${number}, sizeof(file_${number}) },\n")
		math(EXPR number "${number} + 1")
	endforeach()
	file(WRITE ${OUTPUT} "/* Generated from the files of console/page. */\n#include \"web.h\"\n\n${arrays}\n"
		"const struct page_file page_files[] = {\n${rows}};\nconst size_t page_file_count = ${number};\n")
endif()
