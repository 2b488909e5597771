// Package check examines a repository without changing or healing it, and says what is wrong, in which file, and which
// paths of which snapshots suffer from it.
//
// It proves, for everything that the index and the snapshots name: files are there and have the right size; small files
// hash to their names; each pack's own list of blobs is what the index says; snapshots and trees can be read; each blob
// that a tree names is listed. With the data read it proves as well that each byte of each pack hashes to the pack's
// name and that each blob decodes to its own hash, as stored and as stock restic would read it. A pack is read once from
// end to end; file hash and blobs are computed from the same bytes.
//
// Nothing is called damaged that was looked at only once: what fails is read again, past the system's cache where the
// files allow it. What was right the second time is a finding of its own, [ErrUnsteady].
//
// All packs can be read, or part of them: a share by name, or a number of bytes or a percentage, at random or, with a
// state file, those first that were verified longest ago. The state file also lets a check of all packs that was
// interrupted go on where it was. It is derived data: one that is cut, damaged or of another repository is reported,
// ignored and replaced.
//
// Memory does not grow with the number of blobs: index files pass one after another, and what is kept is about 60 bytes
// for each pack and 25 for each directory. A repository that is being written to meanwhile gives no false alarms but
// perhaps packs that are in no index yet.
package check
