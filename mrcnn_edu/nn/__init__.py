"""The networks: backbone, feature pyramid, region proposals, box head and mask head."""
