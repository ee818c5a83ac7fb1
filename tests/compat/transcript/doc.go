// Package transcript runs the real etcdctl, of both versions, through a list of
// commands against the reference and against etcore. What it prints and how it
// ends must be identical. What may differ is listed in mask.go.
//
// The commands are in testdata, one a line, in this form:
//
//	get a --prefix -w {simple,json}     one command for each word in braces
//	txn -i                              a command with input:
//	| value("a") = "1"                  one line of it
//	lease timetolive $lease1            the first lease that was granted
//
// Words are split at blanks; a word in double quotes is a Go string.
package transcript
