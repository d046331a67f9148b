# Reads the list of contexts: CONTEXTS (their names), CONTEXT_ABOUT_<name>, CONTEXT_LISTEN_<name>, CONTEXT_ADMIN_LISTEN_<name>, SERVICES (with the gateway),
# and writes generated/contexts.h for C.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/contexts)
file(STRINGS ${CMAKE_SOURCE_DIR}/contexts lines REGEX "^[^#]")
set(CONTEXTS)
set(all)
set(reads)
set(addresses)
foreach(line IN LISTS lines)
	if(NOT line MATCHES "^([a-z]+) +([a-z,-]+) +([^ ]+) +([^ ]+) +(.*)$")
		message(FATAL_ERROR "contexts: cannot read the line: ${line}")
	endif()
	set(name ${CMAKE_MATCH_1})
	set(others ${CMAKE_MATCH_2})
	list(APPEND CONTEXTS ${name})
	set(CONTEXT_LISTEN_${name} ${CMAKE_MATCH_3})
	set(CONTEXT_ADMIN_LISTEN_${name} ${CMAKE_MATCH_4})
	set(CONTEXT_ABOUT_${name} "${CMAKE_MATCH_5}")
	string(TOUPPER ${name} upper)
	string(APPEND addresses "#define ${upper}_LISTEN \"${CMAKE_MATCH_3}\"\n"
		"#define ${upper}_ADMIN_LISTEN \"${CMAKE_MATCH_4}\"\n")
	string(APPEND all " \\\n\tX(${name}, ${upper})")
	if(NOT others STREQUAL "-")
		string(REPLACE "," ";" others ${others})
		foreach(other IN LISTS others)
			string(APPEND reads " \\\n\tX(${name}, ${other})")
		endforeach()
	endif()
endforeach()
set(SERVICES ${CONTEXTS} gateway)
file(CONFIGURE OUTPUT ${GENERATED}/contexts.h @ONLY CONTENT "/* Made from the file contexts. */
#ifndef CONTEXTS_H
#define CONTEXTS_H

/* X(name, NAME) for each context; X(reader, of) for each whose events another one reads. */
#define TANDEM_CONTEXTS(X)@all@
#define TANDEM_READERS(X)@reads@

/* Where they listen, unless a setting names another address. */
@addresses@
#endif
")
