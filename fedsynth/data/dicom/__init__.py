"""Reads DICOM: series of images, their pixels and volumes, segmentations and contours.

What names a patient goes no further than this folder and fedsynth/sources/dicom.py: messages name a file by a hash
(`fedsynth.data.dicom.files.neutral`), and repeat neither what pydicom says nor any value that identifies.
"""
