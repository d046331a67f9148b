# Fills TEMPLATE in, as OUTPUT. @HELP@ is what PROGRAM itself says to --help, as roff, and @MANUAL@
# what tandemctl says to --print-manual: a manual page never says anything else than the program does.
# Run by the install target.
execute_process(COMMAND ${PROGRAM} --help OUTPUT_VARIABLE HELP COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\\" "\\e" HELP "${HELP}")
string(REPLACE "-" "\\-" HELP "${HELP}")
# A dot or an apostrophe at the start of a line would be a command.
string(REGEX REPLACE "(^|\n)([.'])" "\\1\\\\&\\2" HELP "${HELP}")
if(NAME STREQUAL "ctl")
	execute_process(COMMAND ${PROGRAM} --print-manual OUTPUT_VARIABLE MANUAL
		COMMAND_ERROR_IS_FATAL ANY)
endif()
string(TOUPPER ${NAME} NAME_UPPER)
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)
