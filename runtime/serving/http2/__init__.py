"""HTTP/2 for servers that live on an event loop (RFC 9113): connections and streams; nothing here knows what is asked over them."""
