// Package repo is the commands that work on one repository on this machine, without any node: init, backup, restore,
// check and the rest, with stock restic's names for options and with its exit codes.
//
// A command opens the repository with [opener] and leaves the work to the packages under chunkstore; what belongs to one
// command lies in the file of its name.
package repo
