// Package restore brings files back from a snapshot: all of it or a part into a directory, one file as a stream, or a
// directory as a tar or zip archive. It decides nothing about snapshots and keys.
//
// # What is guaranteed
//
// Every byte is held to the SHA-256 of its blob before it is written.
//
// What carries its own name in the target is whole and durable, at any instant, also after power loss: either what was
// there before, untouched, or what is restored. Until then it is called ".dengbei-restore-" and 20 hex digits of the
// SHA-256 of its name. That holds for files, links and devices in directories that were there before; a directory that
// was not is called so with everything in it, and gets its name at the end. A file of 1 MiB and more that exists and
// differs in parts is rewritten where it lies, and carries its unfinished name meanwhile; smaller ones are made anew
// beside the old one. The file system is synced before names are given and once more before the restore returns.
//
// A restore that was killed can be repeated: it goes on with the unfinished files and directories of its names, proves
// their content, and removes what it does not need. A restore that ends early by its context gives names to what is
// whole and takes away what is not.
//
// Existing files are compared by content, blob by blob, and only what differs is fetched and written; see [Overwrite]. A
// file with several hard links in the target is never written to but replaced: its other names may lie elsewhere.
//
// Nothing is ever written outside the target. Directories are opened one by one below it, and no symlink in the target
// is followed; one where a directory belongs is [ErrInTheWay]. Names that are no plain names of one directory ("..", a
// slash or a NUL in it) are refused with [repository.ErrName]. The target itself may be reached through symlinks. Other
// users must not be able to write in it.
//
// What cannot be restored does not stop the rest: it is named in the [Result], and the error matches [ErrIncomplete].
//
// Files that were hard links of each other are again, if they agree in content; so are devices and pipes made, with the
// rights of root where they need them. Sockets are passed over. Extended attributes that the file system or this
// process's rights do not allow are counted and do not withhold their file.
//
// # What it costs
//
// Packs are read in the order in which files first need them, each once, several blobs with one read; a blob that many
// places need is decoded once. Memory is about 32 bytes for each chunk, 200 for each file with its name, and 12 MiB for
// each processor.
//
// Sizes are bytes. Paths begin with a slash, at the root of the snapshot or of the directory that is restored.
package restore
