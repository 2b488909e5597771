// Package check examines a repository without changing or healing it, and says what is wrong, in which file, and which
// paths of which snapshots suffer from it.
//
// It proves, for everything that the index and the snapshots name: files are there and have the right size; snapshots
// and trees can be read; each blob that a tree names is listed. With the data read it proves as well that each byte of
// each pack hashes to the pack's name, that each blob decodes to its own hash, and that headers say what the index says.
package check
