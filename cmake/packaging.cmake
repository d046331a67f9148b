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

# A service's unit and manual page.
function(tandem_package name about flags after credential)
	set(state "")
	if(ARGC GREATER 5)
		set(state ${ARGV5})
	endif()
	if(NOT TARGET tandem-${name})
		return()
	endif()
	set(values "NAME=${name}" "ABOUT=${about}" "FLAGS=${flags}" "AFTER=${after}"
		"CREDENTIAL=${credential}" "STATE=${state}")
	tandem_package_file(tandem-${name} systemd/tandem-service.in tandem-${name}.service
		lib/systemd/system ${values})
	set(page service)
	if(EXISTS ${CMAKE_SOURCE_DIR}/packaging/man/${name}.8.in)
		set(page ${name})
	endif()
	tandem_package_file(tandem-${name} man/${page}.8.in tandem-${name}.8
		${CMAKE_INSTALL_MANDIR}/man8 ${values})
endfunction()

set(units)
foreach(name IN LISTS CONTEXTS)
	set(flags " --redis-password-file=%d/redis-password")
	set(state "")
	if(name STREQUAL "archive") # its database
		string(APPEND flags " --database=%S/tandem-archive/archive.db")
		set(state StateDirectory=tandem-archive)
	endif()
	tandem_package(${name} "${CONTEXT_ABOUT_${name}}" "${flags}" "redis-server.service"
		"LoadCredential=redis-password:/etc/tandem/${name}.password" "${state}")
	string(APPEND units " tandem-${name}.service")
endforeach()
string(STRIP "${units}" units)
tandem_package(gateway "takes calls for orders and stock" "" "${units}" "")
tandem_package(console "shows people what goes on" "" "tandem-gateway.service" "")
if(TARGET tandemctl)
	tandem_package_file(tandemctl man/tandemctl.1.in tandemctl.1 ${CMAKE_INSTALL_MANDIR}/man1
		"NAME=ctl" "ABOUT=places and follows orders, explains and repairs")
endif()

# ---- what only Debian packages have: a Redis of their own ----
option(DEB "Install what only the Debian packages have, too (scripts/packages)" OFF)
if(DEB)
	install(FILES packaging/systemd/tandem-redis.service DESTINATION lib/systemd/system COMPONENT services)
	install(FILES packaging/debian/tandem.sysusers DESTINATION lib/sysusers.d RENAME tandem.conf COMPONENT services)
	install(FILES packaging/debian/tandem.env DESTINATION /etc/tandem COMPONENT services)
	foreach(NAME IN LISTS CONTEXTS)
		configure_file(packaging/systemd/redis.conf.in ${CMAKE_BINARY_DIR}/packaging/${NAME}-redis.conf @ONLY)
		install(FILES ${CMAKE_BINARY_DIR}/packaging/${NAME}-redis.conf RENAME redis.conf
			DESTINATION lib/systemd/system/tandem-${NAME}.service.d COMPONENT services)
	endforeach()
	include(cmake/deb.cmake)
endif()
