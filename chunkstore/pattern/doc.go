// Package pattern selects paths in a snapshot or on disk by patterns, with stock restic's meaning of them.
//
// A pattern is cut at its slashes, and each element is one for [path.Match]; an element ** stands for any number of
// directories, none among them. A pattern that begins with a slash is anchored at the root. Any other matches wherever
// its elements follow each other. What lies below a matching directory matches as well. A pattern that begins with an
// exclamation mark takes back what patterns before it matched; of several the last one decides.
package pattern
