// Package bench holds nothing but a test of the programs below it, which runs with DENGBEI_BENCH=1 only: each of them does
// its work on tiny data and prints the rows it is meant to. What they measure is compared by people, on a quiet machine.
package bench
