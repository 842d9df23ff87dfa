# Run by cpack when the files of the package are in place: what only a Debian package has.
set(root ${CPACK_TEMPORARY_INSTALL_DIRECTORY})
file(COPY ${CPACK_SLUICE_PACKAGING}/debian/copyright DESTINATION ${root}/usr/share/doc/sluice)
configure_file(${CPACK_SLUICE_MADE}/changelog ${root}/usr/share/doc/sluice/changelog.Debian COPYONLY)
file(MAKE_DIRECTORY ${root}/usr/share/lintian/overrides)
configure_file(${CPACK_SLUICE_PACKAGING}/debian/lintian-overrides ${root}/usr/share/lintian/overrides/sluice COPYONLY)
file(GLOB pages ${root}/usr/share/man/man1/*.1)
execute_process(COMMAND gzip -9nf ${pages} ${root}/usr/share/doc/sluice/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)
