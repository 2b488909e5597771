package network

// Announcement returns what a delivery begins with: its description, and the unit's signature over it.
func (p *Parcel) Announcement() (encoded, signature []byte) { return p.encoded, p.signature }
