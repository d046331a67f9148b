# What the install target adds to the programs: the contract for other languages, units for
# systemd, manual pages, the documents. Units and pages name the prefix, which is known for certain
# only when installing (cmake --install --prefix), so they are written then, by package_file.cmake.
include(GNUInstallDirs)

install(DIRECTORY proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/proto COMPONENT services
	FILES_MATCHING PATTERN "*.proto")
install(DIRECTORY packaging/prometheus packaging/grafana DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem COMPONENT services
	PATTERN tests EXCLUDE)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT services)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT services
	FILES_MATCHING PATTERN "*.md" PATTERN "*.pml" PATTERN "*.png")
# Redis as Tandem needs it, for packages: scripts/up does without.
install(FILES contexts DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem COMPONENT services)
install(PROGRAMS scripts/lib/run scripts/lib/redis-files scripts/lib/redis-open scripts/lib/redis-repair scripts/lib/redis-user scripts/lib/ca
	DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/scripts/lib COMPONENT services)
install(FILES scripts/lib/settings.sh scripts/lib/redis-rights.sh DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/scripts/lib COMPONENT services)

# The runtime, for services of one's own.
install(TARGETS tandem_runtime tandem_messages ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(DIRECTORY runtime/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tandem COMPONENT dev
	FILES_MATCHING PATTERN "*.h" PATTERN "*_internal.h" EXCLUDE)
install(DIRECTORY ${GENERATED}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tandem COMPONENT dev
	FILES_MATCHING PATTERN "*.pb-c.h")
install(FILES runtime/events/events.lua cmake/embed.cmake DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/runtime COMPONENT dev)
# From these files up to the prefix, which is known when installing.
file(RELATIVE_PATH UP_FROM_CMAKE /${CMAKE_INSTALL_LIBDIR}/cmake/tandem /)
file(RELATIVE_PATH UP_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/tandem-config.cmake.in ${CMAKE_BINARY_DIR}/packaging/tandem-config.cmake @ONLY)
configure_file(cmake/tandem.pc.in ${CMAKE_BINARY_DIR}/packaging/tandem.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/packaging/tandem-config.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tandem COMPONENT dev)
install(FILES ${CMAKE_BINARY_DIR}/packaging/tandem.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

# tandem_package(<target> <template> <output> <destination> [NAME=value …])
function(tandem_package_file target template output destination)
	set(component services)
	if(target STREQUAL tandemctl)
		set(component ctl)
	endif()
	set(values)
	foreach(value IN LISTS ARGN)
		string(APPEND values " \"-D${value}\"")
	endforeach()
	set(file ${CMAKE_BINARY_DIR}/packaging/${output})
	install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\"
		\"-DPROGRAM=$<TARGET_FILE:${target}>\" \"-DVERSION=${PROJECT_VERSION}\"
		\"-DBIN_DIR=\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\"
		\"-DDOC_DIR=\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DOCDIR}\" ${values}
		\"-DTEMPLATE=${CMAKE_SOURCE_DIR}/packaging/${template}\" \"-DOUTPUT=${file}\"
		-P \"${CMAKE_SOURCE_DIR}/cmake/package_file.cmake\" COMMAND_ERROR_IS_FATAL ANY)" COMPONENT ${component})
	install(FILES ${file} DESTINATION ${destination} COMPONENT ${component})
endfunction()

# A service's unit and manual page. With SECOND_LISTEN and SECOND_ADMIN_LISTEN also the unit of further instances,
# tandem-<name>@.service; where the one called 2 listens stands in a file, since all read the same settings otherwise.
function(tandem_package name)
	cmake_parse_arguments(PARSE_ARGV 1 unit "" "ABOUT;FLAGS;AFTER;CREDENTIAL;EXTRA;SECOND_LISTEN;SECOND_ADMIN_LISTEN;SECOND_EXTRA" "")
	if(NOT TARGET tandem-${name})
		return()
	endif()
	set(values "NAME=${name}" "ABOUT=${unit_ABOUT}" "FLAGS=${unit_FLAGS}" "AFTER=${unit_AFTER}"
		"CREDENTIAL=${unit_CREDENTIAL}" "EXTRA=${unit_EXTRA}")
	tandem_package_file(tandem-${name} systemd/tandem-service.in tandem-${name}.service
		lib/systemd/system ${values} "WHICH=" "DASH=" "INSTANCE=")
	if(unit_SECOND_LISTEN)
		tandem_package_file(tandem-${name} systemd/tandem-service.in tandem-${name}@.service lib/systemd/system
			${values} "WHICH= (instance %i)" "DASH=-%i"
			"INSTANCE=EnvironmentFile=-\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/tandem/instances/${name}-%i.env\nEnvironmentFile=-/etc/tandem/${name}-%i.env")
		string(TOUPPER ${name} upper)
		file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/packaging/${name}-2.env @ONLY
			CONTENT "# Where tandem-${name}@2 listens. Elsewhere: /etc/tandem/${name}-2.env
TANDEM_${upper}_LISTEN=${unit_SECOND_LISTEN}
TANDEM_${upper}_ADMIN_LISTEN=${unit_SECOND_ADMIN_LISTEN}
${unit_SECOND_EXTRA}")
		install(FILES ${CMAKE_BINARY_DIR}/packaging/${name}-2.env DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/instances
			COMPONENT services)
	endif()
	set(page service)
	if(EXISTS ${CMAKE_SOURCE_DIR}/packaging/man/${name}.8.in)
		set(page ${name})
	endif()
	tandem_package_file(tandem-${name} man/${page}.8.in tandem-${name}.8
		${CMAKE_INSTALL_MANDIR}/man8 ${values})
endfunction()

# A second instance listens ten ports above the first.
function(tandem_second listen ret)
	string(REGEX MATCH "^(.*:)([0-9]+)$" all ${listen})
	math(EXPR port "${CMAKE_MATCH_2} + 10")
	set(${ret} ${CMAKE_MATCH_1}${port} PARENT_SCOPE)
endfunction()

# The archive keeps a database, which is of one process: it has no second instance.
set(units "")
set(targets "")
set(with_second "")
foreach(name IN LISTS CONTEXTS)
	set(flags " --redis-password-file=%d/redis-password")
	set(extra "")
	set(second)
	if(name STREQUAL "archive")
		string(APPEND flags " --database=%S/tandem-archive/archive.db")
		set(extra StateDirectory=tandem-archive)
	else()
		tandem_second(${CONTEXT_LISTEN_${name}} listen)
		tandem_second(${CONTEXT_ADMIN_LISTEN_${name}} admin_listen)
		set(second SECOND_LISTEN ${listen} SECOND_ADMIN_LISTEN ${admin_listen})
		string(TOUPPER ${name} upper)
		string(APPEND targets " TANDEM_GATEWAY_${upper}_TARGET=${CONTEXT_LISTEN_${name}},${listen}")
		list(APPEND with_second ${name})
	endif()
	tandem_package(${name} ABOUT "${CONTEXT_ABOUT_${name}}" FLAGS "${flags}" AFTER "redis-server.service"
		CREDENTIAL "LoadCredential=redis-password:/etc/tandem/${name}.password" EXTRA "${extra}" ${second})
	string(APPEND units " tandem-${name}.service")
endforeach()
string(STRIP "${units}" units)
string(STRIP "${targets}" targets)
tandem_package(gateway ABOUT "takes calls for orders and stock" AFTER "${units}"
	EXTRA "# Both instances, where there are two.\nEnvironment=${targets}"
	SECOND_LISTEN 127.0.0.1:50061 SECOND_ADMIN_LISTEN 127.0.0.1:9111
	SECOND_EXTRA "# Calls over HTTP are served by the first alone.\nTANDEM_GATEWAY_HTTP_LISTEN=\nTANDEM_HTTP_LISTEN=\n")
tandem_package(console ABOUT "shows people what goes on" AFTER "tandem-gateway.service")
if(TARGET tandemctl)
	tandem_package_file(tandemctl man/tandemctl.1.in tandemctl.1 ${CMAKE_INSTALL_MANDIR}/man1
		"NAME=ctl" "ABOUT=places and follows orders, explains and repairs")
endif()

# ---- what only Debian packages have: a Redis of their own ----
if(DEB)
	install(FILES packaging/systemd/tandem-redis.service DESTINATION lib/systemd/system COMPONENT services)
	install(FILES packaging/debian/tandem.sysusers DESTINATION lib/sysusers.d RENAME tandem.conf COMPONENT services)
	install(FILES packaging/debian/tandem.env DESTINATION /etc/tandem COMPONENT services)
	install(FILES packaging/debian/README.Debian DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT services)
	foreach(NAME IN LISTS CONTEXTS)
		configure_file(packaging/systemd/redis.conf.in ${CMAKE_BINARY_DIR}/packaging/${NAME}-redis.conf @ONLY)
		set(folders tandem-${NAME}.service.d)
		if(NAME IN_LIST with_second)
			list(APPEND folders tandem-${NAME}@.service.d)
		endif()
		foreach(folder IN LISTS folders)
			install(FILES ${CMAKE_BINARY_DIR}/packaging/${NAME}-redis.conf RENAME redis.conf
				DESTINATION lib/systemd/system/${folder} COMPONENT services)
		endforeach()
	endforeach()
	list(APPEND with_second gateway)
	list(JOIN with_second "|" SECONDS)
	include(cmake/deb.cmake)
endif()
