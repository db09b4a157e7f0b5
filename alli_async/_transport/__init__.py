"""From a request to a decoded answer: the wire (pure), the session, retry and throttle."""
