# cmake --install, and the Debian package: cpack -G DEB in a build folder, or ./dev package.
#
# Paths below /etc and the like are those of a system installation: DESTDIR puts all of it into another root. The unit
# names the program by its full path, so the prefix is chosen when configuring (-D CMAKE_INSTALL_PREFIX; the presets say
# /usr), not later.
include(GNUInstallDirs)

set(packaging ${CMAKE_SOURCE_DIR}/config/packaging)
set(made ${CMAKE_BINARY_DIR}/packaging)
if(CMAKE_INSTALL_PREFIX STREQUAL /usr)
  # Where Debian's dpkg looks.
  set(unit_folder /lib/systemd/system)
else()
  set(unit_folder ${CMAKE_INSTALL_FULL_LIBDIR}/systemd/system)
endif()

# From the help texts, where the program can be run: not when it is compiled for another machine.
find_program(SLUICE_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
if(SLUICE_PYTHON AND NOT CMAKE_CROSSCOMPILING AND NOT SLUICE_SANITIZE)
  add_custom_command(
    OUTPUT ${made}/man1/sluice.1 ${made}/bash/sluice ${made}/zsh/_sluice ${made}/fish/sluice.fish
    COMMAND ${SLUICE_PYTHON} -B ${packaging}/generate.py $<TARGET_FILE:sluice> ${PROJECT_VERSION} ${made}
    DEPENDS sluice ${packaging}/generate.py
    COMMENT "Man pages and completions")
  add_custom_target(sluice_texts ALL DEPENDS ${made}/man1/sluice.1)
  install(DIRECTORY ${made}/man1 DESTINATION ${CMAKE_INSTALL_FULL_MANDIR} FILES_MATCHING PATTERN *.1)
  install(FILES ${made}/bash/sluice DESTINATION ${CMAKE_INSTALL_FULL_DATADIR}/bash-completion/completions)
  install(FILES ${made}/zsh/_sluice DESTINATION ${CMAKE_INSTALL_FULL_DATADIR}/zsh/vendor-completions)
  install(FILES ${made}/fish/sluice.fish DESTINATION ${CMAKE_INSTALL_FULL_DATADIR}/fish/vendor_completions.d)
else()
  message(STATUS "Man pages and completions are left out")
endif()

configure_file(${packaging}/sluice.service.in ${made}/sluice.service @ONLY)
install(TARGETS sluice DESTINATION ${CMAKE_INSTALL_FULL_BINDIR})
install(FILES ${made}/sluice.service DESTINATION ${unit_folder})
install(FILES ${packaging}/sysusers.conf DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/sysusers.d RENAME sluice.conf)
install(FILES ${packaging}/logrotate.conf DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/logrotate.d RENAME sluice)
install(FILES config/sluice.yml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/sluice)
install(DIRECTORY DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/sluice/secrets
  DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_FULL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_FULL_DOCDIR})
install(DIRECTORY docker/grafana/dashboards docker/prometheus/rules DESTINATION ${CMAKE_INSTALL_FULL_DOCDIR}/examples)

# --- the Debian package ---

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_VENDOR "The sluice authors")
set(SLUICE_PACKAGE_CONTACT "The sluice authors <sluice@localhost>" CACHE STRING
  "Who maintains the packages that are built here: Name <address>")
set(CPACK_PACKAGE_CONTACT "${SLUICE_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "pull-through cache for container registries")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"docker, containerd, podman and buildkit point at it as a mirror. It fetches
each layer from the registry once, streams it to everyone who waits for it,
checks its digest, and serves it from disk from then on, also while the
registry is down.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "ca-certificates, systemd, init-system-helpers (>= 1.54~)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "logrotate, prometheus")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
file(WRITE ${made}/conffiles "/etc/logrotate.d/sluice\n/etc/sluice/sluice.yml\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${made}/conffiles ${packaging}/debian/postinst ${packaging}/debian/prerm ${packaging}/debian/postrm)

# A package has its change log and man pages compressed; what reads neither has no use for that.
string(TIMESTAMP SLUICE_PACKAGE_DATE "%a, %d %b %Y 00:00:00 +0000" UTC)
configure_file(${packaging}/debian/changelog.in ${made}/changelog @ONLY)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/cmake/DebianFiles.cmake)
set(CPACK_SLUICE_MADE ${made})
set(CPACK_SLUICE_PACKAGING ${packaging})
include(CPack)
