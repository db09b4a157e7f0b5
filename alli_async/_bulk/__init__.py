"""Many pages: the cursor walk, the fan-out over chat pages, and the stream of transcripts over both."""
