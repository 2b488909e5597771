package intake

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a name. 255 bytes is what Linux file systems take for one segment.
const (
	MaxPathBytes    = 4096
	MaxSegmentBytes = 255
)

// CheckPath reports whether p is safe to create below a directory: relative, slash separated, valid UTF-8, without
// empty, "." or ".." segments, NUL or backslash, and within the limits. Newlines and any script are allowed.
// The error is a [*RuleError] of [RulePathSafety].
func CheckPath(p string) error {
	switch {
	case p == "":
		return pathError(p, "empty path", "give every file a name")
	case len(p) > MaxPathBytes:
		return pathError(p, fmt.Sprintf("%d bytes long, the limit is %d", len(p), MaxPathBytes), "shorten the names of its folders")
	case !utf8.ValidString(p):
		return pathError(p, "name is not valid UTF-8", `rename it in UTF-8, for example with "convmv -f gb18030 -t utf-8 --notest" on the folder`)
	case strings.IndexByte(p, 0) >= 0:
		return pathError(p, "name contains a NUL byte", "rename the file")
	case strings.IndexByte(p, '\\') >= 0:
		return pathError(p, "name contains a backslash, which separates folders on Windows", "rename the file without a backslash")
	case p[0] == '/' || isDrive(p):
		return pathError(p, "absolute path", "give the path relative to the delivery folder")
	}
	for seg := range strings.SplitSeq(p, "/") {
		switch {
		case seg == "":
			return pathError(p, "empty segment", "write one / between names and none at the end")
		case seg == "." || seg == "..":
			return pathError(p, fmt.Sprintf("segment %q leaves or repeats its folder", seg), "give the path relative to the delivery folder, without . and ..")
		case len(seg) > MaxSegmentBytes:
			return pathError(p, fmt.Sprintf("a name of %d bytes, the limit is %d", len(seg), MaxSegmentBytes), "shorten the name")
		}
	}
	return nil
}

func pathError(p, what, way string) *RuleError {
	return &RuleError{Rule: RulePathSafety, Item: p, What: what, Way: way}
}

// isDrive reports a Windows drive prefix such as "C:/" or "c:x".
func isDrive(p string) bool {
	return len(p) >= 2 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z' && (len(p) == 2 || p[2] == '/')
}

// PathWarning is a property of a safe path that makes trouble elsewhere. The value is stable and part of reports.
type PathWarning string

// The warnings [PathWarnings] gives.
const (
	WarnDeviceName   PathWarning = "device_name"   // a device on Windows (CON, NUL, COM1 …)
	WarnWindowsName  PathWarning = "windows_name"  // a character or a last character that Windows refuses
	WarnControlChars PathWarning = "control_chars" // newline, tab or another control character
	WarnInvisible    PathWarning = "invisible"     // direction override or other invisible character: the name may read as another
)

// PathWarnings lists what will make trouble when p is restored elsewhere, in a fixed order; nil if nothing.
func PathWarnings(p string) []PathWarning {
	var device, windows, control, invisible bool
	for seg := range strings.SplitSeq(p, "/") {
		device = device || isDeviceName(seg)
		windows = windows || strings.ContainsAny(seg, `<>:"|?*`) || strings.HasSuffix(seg, ".") || strings.HasSuffix(seg, " ")
	}
	for _, r := range p {
		control = control || unicode.IsControl(r)
		invisible = invisible || unicode.Is(unicode.Cf, r)
	}
	var w []PathWarning
	for _, c := range []struct {
		is   bool
		warn PathWarning
	}{{device, WarnDeviceName}, {windows, WarnWindowsName}, {control, WarnControlChars}, {invisible, WarnInvisible}} {
		if c.is {
			w = append(w, c.warn)
		}
	}
	return w
}

// isDeviceName knows the names that Windows reserves in every folder, with any extension.
func isDeviceName(seg string) bool {
	base, _, _ := strings.Cut(seg, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	rest, ok := strings.CutPrefix(base, "COM")
	if !ok {
		rest, ok = strings.CutPrefix(base, "LPT")
	}
	if !ok {
		return false
	}
	switch rest {
	case "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}
