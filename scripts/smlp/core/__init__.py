"""What every command needs: errors, whole files, locks, provenance, downloads. Imports nothing else of ours."""
