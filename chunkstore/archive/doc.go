// Package archive backs up files and directories into a repository: it walks them, cuts the files into chunks, and saves
// chunks, trees and one snapshot.
//
// A backup is whole or it is not: a file that cannot be read, or that changes while it is read, is an error that names
// it, and no snapshot is saved. What was stored by then stays in the repository and is not stored again by the next run.
//
// Trees are those of stock restic for the same files, so that both share blobs.
package archive
