// Package crash names the instructions at which the daemon must be able to die,
// and makes it die there in a test. The program that is shipped has nothing of
// it: without the build tag crashpoints its functions are empty, and the
// compiler leaves no trace of their calls.
//
// With the tag, the environment variable Variable names a file in which a test
// orders a death: "stop.announced#2" is the second time that the point is passed
// since the order was read first, "*#5" the fifth point of any name. The file is
// read at every point, so that a running daemon can be given an order, and it
// stays in force for the next daemon until it is removed. Right before the
// process kills itself with SIGKILL it adds the point's name to the file's
// namesake with the suffix Died.
//
// To add a point: a line in Points, and the call at its place. Its family (the
// name up to the last dot) says which way of the end-to-end test leads through
// it; that test fails for a point that it does not reach.
package crash
