"""The networks: trunk, feature pyramid, region proposals, box head and mask head."""
