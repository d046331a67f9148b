# The Debian packages, made by cpack (scripts/packages): tandem, tandem-ctl, libtandem-runtime-dev. Each install rule names its
# component: services, ctl or dev. cmake --install installs all of them.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tandem)
set(TANDEM_PACKAGE_VERSION ${PROJECT_VERSION} CACHE STRING "The version of the packages")
set(CPACK_PACKAGE_VERSION ${TANDEM_PACKAGE_VERSION})
set(CPACK_PACKAGE_CONTACT "Maintainers of Tandem <maintainers@users.noreply.r-seed-76d2e64d.example>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_COMPONENTS_ALL services ctl dev)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/cmake/deb_files.cmake)

set(CPACK_DEBIAN_SERVICES_PACKAGE_NAME tandem)
set(CPACK_COMPONENT_SERVICES_DESCRIPTION "order and inventory backend that keeps two domains in step
A gRPC gateway takes orders; the order service stores them and publishes
events in one step; the inventory service reserves stock. Whatever is lost,
repeated, reordered or killed, every order reaches one outcome and stock
adds up.

This package has the services, their units for systemd, and a Redis of its own.")
set(CPACK_DEBIAN_SERVICES_PACKAGE_DEPENDS "redis-server (>= 5:7.0), tandem-ctl (= ${CPACK_PACKAGE_VERSION}), systemd | systemd-standalone-sysusers, openssl")
set(CPACK_DEBIAN_SERVICES_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/packaging/debian/conffiles)
# Those whose answers others need come first. DEB_REPLACED: a second instance serves while they are restarted.
set(ordered ${CONTEXTS})
list(REVERSE ordered)
set(DEB_SERVICES redis ${ordered} gateway console)
set(DEB_REPLACED ${ordered} gateway)
list(FILTER DEB_REPLACED INCLUDE REGEX "^(${SECONDS})$")
set(DEB_RESTARTED ${ordered} console)
list(FILTER DEB_RESTARTED EXCLUDE REGEX "^(${SECONDS})$")
list(TRANSFORM DEB_SERVICES PREPEND tandem-)
set(DEB_STOPPED ${DEB_SERVICES})
list(REVERSE DEB_STOPPED)
list(TRANSFORM DEB_STOPPED APPEND .service)
foreach(names IN ITEMS DEB_SERVICES DEB_REPLACED DEB_RESTARTED DEB_STOPPED)
	list(JOIN ${names} " " ${names})
endforeach()
foreach(script IN ITEMS postinst prerm postrm)
	configure_file(${CMAKE_SOURCE_DIR}/packaging/debian/tandem.${script}.in ${CMAKE_BINARY_DIR}/packaging/${script} @ONLY)
	list(APPEND CPACK_DEBIAN_SERVICES_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/packaging/${script})
endforeach()

set(CPACK_DEBIAN_CTL_PACKAGE_NAME tandem-ctl)
set(CPACK_COMPONENT_CTL_DESCRIPTION "command line for Tandem, an order and inventory backend
tandemctl places and follows orders, explains an order's life, audits orders
against stock, repairs, and measures.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libtandem-runtime-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libgnutls28-dev, libgrpc-dev, libhiredis-dev, libjansson-dev, libmicrohttpd-dev, libprotobuf-c-dev, libssl-dev, libuv1-dev, protobuf-c-compiler, protobuf-compiler")
set(CPACK_COMPONENT_DEV_DESCRIPTION "runtime of Tandem, for services of one's own
Events from Redis streams with retries and dead letters, gRPC with
protobuf-c, settings, metrics and traces, as Tandem's own services use them:
headers, static libraries, and find_package(tandem) for CMake.")
include(CPack)
