# What the install target adds to the programs: the contract for other languages, units for
# systemd, manual pages, the documents. Units and pages name the prefix, which is known for certain
# only when installing (cmake --install --prefix), so they are written then, by package_file.cmake.
include(GNUInstallDirs)

install(DIRECTORY proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem/proto
	FILES_MATCHING PATTERN "*.proto")
install(DIRECTORY packaging/prometheus packaging/grafana DESTINATION ${CMAKE_INSTALL_DATADIR}/tandem
	PATTERN tests EXCLUDE)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}
	FILES_MATCHING PATTERN "*.md" PATTERN "*.pml")

# tandem_package(<target> <template> <output> <destination> [NAME=value …])
function(tandem_package_file target template output destination)
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
		-P \"${CMAKE_SOURCE_DIR}/cmake/package_file.cmake\" COMMAND_ERROR_IS_FATAL ANY)")
	install(FILES ${file} DESTINATION ${destination})
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
