# Writes a header with the commit that is built, when that has changed: "1a2b3c4d5e6f", with "-dirty" when files differ
# from it; "" when it is not known. Called at every build with ROOT, OUTPUT and COMMIT (which is taken as it is, for those
# who build from an archive).
cmake_policy(VERSION 3.25)
if(COMMIT STREQUAL "")
	execute_process(COMMAND git -C ${ROOT} rev-parse --show-toplevel
		OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
	file(REAL_PATH ${ROOT} root)
	if(top STREQUAL root) # not the repository of somebody else around an archive
		execute_process(
			COMMAND git -C ${ROOT} --no-optional-locks describe --always --dirty --abbrev=12 --exclude *
			OUTPUT_VARIABLE COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
	endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "/* Made by cmake/commit.cmake. */
#define TANDEM_COMMIT \"${COMMIT}\"
")
