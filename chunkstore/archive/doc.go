// Package archive backs up files and directories into a repository: it walks them, cuts the files into chunks, and saves
// chunks, trees and one snapshot.
//
// A strict backup is whole or it is not: a file that cannot be read, or that changes while it is read, is an error that
// names it, and no snapshot is saved. With [Options.Report] such files are reported and the rest is stored. Either way
// the snapshot comes last: one that is there names only what is stored durably.
//
// What was stored when a backup is cut off, at whatever instant, stays in the repository and is not stored again by the
// next run. With [Options.Checkpoint] a partial snapshot says as well which files are done; it goes once a backup of the
// same host and paths is complete, after that one is durable. All the time the repository is one that stock restic
// accepts.
//
// Trees are those of stock restic 0.14 for the same files, byte for byte, so that both share blobs: device numbers and
// inodes are recorded, sockets and the attributes of symlinks are not. Targets of symlinks that are not UTF-8, which 0.14
// loses, are kept the way later versions do.
//
// Several files are read at once, and the chunks of one file are stored beside its reading. Memory does not grow with
// the number of files, but with the entries of the directories that are being stored.
package archive
